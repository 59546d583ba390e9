//! The service around a handler.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_core::response::{IntoResponse, Response};
use http::header::COOKIE;
use http::{HeaderMap, Request};
use tower_service::Service;

use super::future::ResponseFuture;
use super::headers::{ClosingRequest, claims_plain_http, may_warn};
use super::layer::Config;
use crate::header::HeaderOptions;
use crate::session::{Carried, Inner, Realm, Session, Settings};

/// What [`SessionLayer`](super::SessionLayer) makes of a service.
pub struct SessionService<I, R: Realm = ()> {
    inner: I,
    config: Arc<Config>,
    realm: PhantomData<fn() -> R>,
}

impl<I, R: Realm> SessionService<I, R> {
    pub(super) fn new(inner: I, config: Arc<Config>) -> Self {
        Self { inner, config, realm: PhantomData }
    }
}

impl<I: Clone, R: Realm> Clone for SessionService<I, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.config))
    }
}

impl<I: fmt::Debug, R: Realm> fmt::Debug for SessionService<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<I, R, B> Service<Request<B>> for SessionService<I, R>
where
    I: Service<Request<B>>,
    I::Response: IntoResponse,
    R: Realm,
{
    type Response = Response;
    type Error = I::Error;
    type Future = ResponseFuture<I::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut is_activity = true;
        if self.config.has_predicates() {
            let (judged, verdict) = self.config.judge(request);
            if verdict.skip {
                return ResponseFuture::aside(self.inner.call(judged));
            }
            (request, is_activity) = (judged, verdict.is_activity);
        }
        let config = &*self.config;
        let carried = carried(request.headers(), &config.shared.settings);
        let session = Arc::new(Inner::carrying(Arc::clone(&config.shared), carried));
        let closing = ClosingRequest {
            on_error: config.on_error.clone(),
            is_activity,
            plain_http: may_warn(&config.shared) && claims_plain_http(request.headers()),
        };
        request.extensions_mut().insert(Session::<R>::from_inner(Arc::clone(&session)));
        ResponseFuture::new(self.inner.call(request), session, closing)
    }
}

fn carried(headers: &HeaderMap, settings: &Settings) -> Carried {
    let name = settings.header.as_ref().map_or(&COOKIE, HeaderOptions::header_name);
    // Nearly always no header at all has two lines, which is quickly seen.
    if headers.len() == headers.keys_len() {
        return headers.get(name).cloned().map_or(Carried::Nothing, Carried::One);
    }
    Carried::lines(headers.get_all(name).iter())
}

/// What the application's predicates say of a request.
struct Verdict {
    skip: bool,
    is_activity: bool,
}

impl Config {
    fn has_predicates(&self) -> bool {
        !self.skip.is_empty() || self.touch_when.is_some()
    }

    fn judge<B>(&self, request: Request<B>) -> (Request<B>, Verdict) {
        let (parts, body) = request.into_parts();
        let verdict = Verdict {
            skip: self.skip.iter().any(|skips| skips(&parts)),
            is_activity: self.touch_when.as_ref().is_none_or(|counts| counts(&parts)),
        };
        (Request::from_parts(parts, body), verdict)
    }
}
