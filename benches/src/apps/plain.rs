//! No sessions: what everything else is measured against.

use axum::Router;
use axum::routing::get;

pub(crate) fn router() -> Router {
    let router = Router::new()
        .route("/ignore", get(async || "ok"))
        .route("/read", get(async || "4294967296"))
        .route("/write", get(async || "ok"));
    super::with_the_others(router, &["/ignore", "/read", "/write"])
}
