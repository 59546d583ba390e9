use axum::Router;
use axum::routing::get;
use axum_session::{SessionConfig, SessionLayer, SessionNullPool, SessionStore};

use super::{LATE_LOGOUT, LATE_WRITE, next_value, payload};

type Session = axum_session::Session<SessionNullPool>;

/// In memory.
pub(crate) async fn router() -> Router {
    let config = SessionConfig::default().with_secure(false);
    let store = SessionStore::<SessionNullPool>::new(None, config).await;
    let layer = SessionLayer::new(store.expect("a store in memory"));
    Router::new()
        .route("/ignore", get(async |_: Session| "ok"))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill", get(fill))
        .route("/increment", get(increment))
        .route("/set/a", get(async |session: Session| set(session, "a").await))
        .route("/set/b", get(async |session: Session| set(session, "b").await))
        .route("/keys", get(keys))
        .route("/late_write", get(late_write))
        .route("/late_logout", get(late_logout))
        .layer(layer)
}

async fn read(session: Session) -> String {
    session.get::<u64>("n").unwrap_or_default().to_string()
}

async fn write(session: Session) -> &'static str {
    session.set("n", next_value());
    "ok"
}

async fn fill(session: Session) -> &'static str {
    session.set("payload", payload());
    "ok"
}

async fn increment(session: Session) -> String {
    let n = session.get::<u64>("n").unwrap_or(0) + 1;
    tokio::task::yield_now().await;
    session.set("n", n);
    n.to_string()
}

async fn set(session: Session, key: &'static str) -> &'static str {
    session.get::<u64>(key);
    tokio::task::yield_now().await;
    session.set(key, 1);
    "ok"
}

async fn keys(session: Session) -> String {
    ["a", "b"].iter().filter(|key| session.get::<u64>(key).is_some()).count().to_string()
}

async fn late_write(session: Session) -> &'static str {
    session.get::<u64>("n");
    tokio::time::sleep(LATE_WRITE).await;
    session.set("n", next_value());
    "ok"
}

async fn late_logout(session: Session) -> &'static str {
    tokio::time::sleep(LATE_LOGOUT).await;
    session.destroy();
    "ok"
}
