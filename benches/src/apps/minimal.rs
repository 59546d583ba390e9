//! The least that a layer with an extractor can do: put one shared value into the request.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use axum::{Extension, Router};
use tower::{Layer, Service};

pub(crate) fn router() -> Router {
    let router = Router::new().route("/ignore", get(async |_: Extension<Arc<u64>>| "ok"));
    super::with_the_others(router, &["/ignore"]).layer(Extending(Arc::new(0)))
}

#[derive(Clone)]
struct Extending(Arc<u64>);

impl<I> Layer<I> for Extending {
    type Service = Extended<I>;

    fn layer(&self, inner: I) -> Extended<I> {
        Extended { inner, value: self.0.clone() }
    }
}

#[derive(Clone)]
struct Extended<I> {
    inner: I,
    value: Arc<u64>,
}

impl<I: Service<Request<Body>>> Service<Request<Body>> for Extended<I> {
    type Response = I::Response;
    type Error = I::Error;
    type Future = I::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> I::Future {
        request.extensions_mut().insert(self.value.clone());
        self.inner.call(request)
    }
}
