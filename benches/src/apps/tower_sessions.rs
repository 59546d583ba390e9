use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tower_sessions::cookie::Key;
use tower_sessions::{Session, SessionManagerLayer, SessionStore};

use super::{LATE_LOGOUT, LATE_WRITE, next_value, payload};

type Result<T> = std::result::Result<T, StatusCode>;

/// With signed cookies, as ours are.
pub(crate) fn router<S: SessionStore + Clone>(store: S) -> Router {
    let layer = SessionManagerLayer::new(store).with_signed(Key::generate());
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

fn failed<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn read(session: Session) -> Result<String> {
    let n: Option<u64> = session.get("n").await.map_err(failed)?;
    Ok(n.unwrap_or_default().to_string())
}

async fn write(session: Session) -> Result<&'static str> {
    session.insert("n", next_value()).await.map_err(failed)?;
    Ok("ok")
}

async fn fill(session: Session) -> Result<&'static str> {
    session.insert("payload", payload()).await.map_err(failed)?;
    Ok("ok")
}

async fn increment(session: Session) -> Result<String> {
    let n: Option<u64> = session.get("n").await.map_err(failed)?;
    tokio::task::yield_now().await;
    let n = n.unwrap_or(0) + 1;
    session.insert("n", n).await.map_err(failed)?;
    Ok(n.to_string())
}

async fn set(session: Session, key: &'static str) -> Result<&'static str> {
    let _: Option<u64> = session.get(key).await.map_err(failed)?;
    tokio::task::yield_now().await;
    session.insert(key, 1).await.map_err(failed)?;
    Ok("ok")
}

async fn keys(session: Session) -> Result<String> {
    let mut found = 0;
    for key in ["a", "b"] {
        found += u32::from(session.get::<u64>(key).await.map_err(failed)?.is_some());
    }
    Ok(found.to_string())
}

async fn late_write(session: Session) -> Result<&'static str> {
    let _: Option<u64> = session.get("n").await.map_err(failed)?;
    tokio::time::sleep(LATE_WRITE).await;
    session.insert("n", next_value()).await.map_err(failed)?;
    Ok("ok")
}

async fn late_logout(session: Session) -> Result<&'static str> {
    tokio::time::sleep(LATE_LOGOUT).await;
    session.flush().await.map_err(failed)?;
    Ok("ok")
}
