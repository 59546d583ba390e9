//! An application on a store, and a browser with one cookie.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::routing::get;
use fastsession::{CookieOptions, RedbStore, Session, SessionLayer};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// `/count` writes, `/read` reads, `/grow` signs in with much to store, `/logout` ends, `/` does
/// not touch the session.
pub(crate) fn app(store: &RedbStore) -> Router {
    let layer = SessionLayer::new(store.clone()).with_cookie(CookieOptions::insecure_http());
    Router::new()
        .route("/", get(async || "untouched"))
        .route("/count", get(count))
        .route("/read", get(read))
        .route("/grow", get(grow))
        .route("/logout", get(async |session: Session| session.destroy().await))
        .layer(layer)
}

async fn count(session: Session) -> fastsession::Result<String> {
    let count = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(count.to_string())
}

async fn read(session: Session) -> fastsession::Result<String> {
    Ok(format!("{:?}", session.get::<u64>("n").await?))
}

async fn grow(session: Session) -> fastsession::Result<&'static str> {
    session.insert("big", &"x".repeat(30_000)).await?;
    Ok("saved")
}

#[derive(Clone)]
pub(crate) struct Browser {
    app: Router,
    pub(crate) cookie: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    pub(crate) set_cookie: Option<String>,
    pub(crate) retry_after: bool,
    pub(crate) took: Duration,
}

impl Reply {
    /// The store failed, and the cookie is left alone.
    #[track_caller]
    pub(crate) fn assert_unavailable(&self) {
        assert_eq!(self.status, StatusCode::SERVICE_UNAVAILABLE, "{self:?}");
        assert!(self.retry_after && self.set_cookie.is_none(), "{self:?}");
    }
}

impl Browser {
    pub(crate) fn new(app: &Router) -> Self {
        Self { app: app.clone(), cookie: None }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        let mut request = Request::get(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let since = Instant::now();
        let response = self.app.clone().oneshot(request.body(Body::empty()).unwrap()).await;
        let (parts, body) = response.unwrap().into_parts();
        let set_cookie = parts.headers.get(header::SET_COOKIE);
        let set_cookie = set_cookie.map(|value| value.to_str().unwrap().to_owned());
        if let Some(set) = &set_cookie {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        let body = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status,
            body: String::from_utf8(body.to_vec()).unwrap(),
            set_cookie,
            retry_after: parts.headers.contains_key(header::RETRY_AFTER),
            took: since.elapsed(),
        }
    }
}
