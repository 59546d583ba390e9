use axum::Router;
use axum::routing::get;
use fastsession::{CookieOptions, Result, Session, SessionLayer, SessionStore};

use super::{LATE_LOGOUT, LATE_WRITE, next_value, payload};

pub(crate) fn router<S: SessionStore>(store: S) -> Router {
    let layer = SessionLayer::new(store).with_cookie(CookieOptions::insecure_http());
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

async fn read(session: Session) -> Result<String> {
    Ok(session.get_or_default::<u64>("n").await?.to_string())
}

async fn write(session: Session) -> Result<&'static str> {
    session.insert("n", &next_value()).await?;
    Ok("ok")
}

async fn fill(session: Session) -> Result<&'static str> {
    session.insert("payload", &payload()).await?;
    Ok("ok")
}

async fn increment(session: Session) -> Result<String> {
    tokio::task::yield_now().await;
    let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

async fn set(session: Session, key: &'static str) -> Result<&'static str> {
    session.get::<u64>(key).await?;
    tokio::task::yield_now().await;
    session.insert(key, &1).await?;
    Ok("ok")
}

async fn keys(session: Session) -> Result<String> {
    let keys = session.keys().await?;
    Ok(keys.iter().filter(|key| matches!(key.as_str(), "a" | "b")).count().to_string())
}

async fn late_write(session: Session) -> Result<&'static str> {
    session.get::<u64>("n").await?;
    tokio::time::sleep(LATE_WRITE).await;
    session.insert("n", &next_value()).await?;
    Ok("ok")
}

async fn late_logout(session: Session) -> Result<&'static str> {
    tokio::time::sleep(LATE_LOGOUT).await;
    session.destroy().await?;
    Ok("ok")
}
