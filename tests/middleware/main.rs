//! The layer's rules, through a real router.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod clones;
mod composing;
mod cookies;
mod crowds;
mod ending;
mod faults;
mod headers;
mod races;
mod sequences;
mod sizes;
mod support;
mod time;
mod unseen;
mod writing;

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fastsession::{
    CookieOptions, Filter, MemoryStore, Origin, Realm, Result, Selector, Session, SessionCap,
    SessionLayer, SessionStore, Timeouts,
};
use support::{Browser, MINUTE, Probe, Reply, clock, layer, memory, send, with_cookies};

/// Routes that most tests need.
fn routes() -> Router {
    Router::new()
        .route("/", get(async || "untouched"))
        .route("/count", get(count))
        .route("/set", get(async |session: Session| session.insert("k", "v").await))
        .route(
            "/get",
            get(async |s: Session| s.get::<String>("k").await.map(Option::unwrap_or_default)),
        )
        .route("/user", get(async |s: Session| s.user().await.map(Option::unwrap_or_default)))
        .route("/origin", get(async |s: Session| s.origin().await.map(Origin::as_str)))
        .route("/login", get(async |session: Session| session.login("alice").await))
        .route("/login/bob", get(async |session: Session| session.login("bob").await))
        .route("/renew", get(async |session: Session| session.renew().await))
        .route("/logout", get(async |session: Session| session.destroy().await))
}

async fn count(session: Session) -> Result<String> {
    let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

fn app(store: impl SessionStore) -> Router {
    routes().layer(layer(store))
}

fn failed() -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn live(store: &MemoryStore) -> usize {
    let query = fastsession::store::Query {
        filter: Filter::new(),
        after: None,
        limit: 1000,
        at: store.clock().now(),
    };
    store.page(&query).await.unwrap().sessions.len()
}

#[track_caller]
fn assert_silent(reply: &Reply) {
    assert!(reply.cookies().is_empty(), "{:?}", reply.cookies());
}
