//! The counter: one page, one route, one session file.
//!
//! `cargo run --release --example counter [ADDRESS [FILE]]` serves on 127.0.0.1:18080 from
//! `sessions.redb`. Several may be started on one file, each on its own address. `counter_redis` is
//! the same program but for the line of its store.
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use fastsession::{CookieOptions, Session, SessionLayer, SessionStore};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:18080".into());
    let place = args.next();

    let store = fastsession::RedbStore::open(place.as_deref().unwrap_or("sessions.redb"))?;
    // Plain HTTP, for a look at it on this machine. Behind TLS, leave the cookie as it is.
    let sessions = SessionLayer::new(store.clone()).with_cookie(CookieOptions::insecure_http());
    let app = Router::new()
        .route("/", get(page))
        .route("/session_test", get(session_test))
        .layer(sessions);

    let listener = tokio::net::TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    println!("http://{address} serves; look into its sessions with `fastsession list`");
    axum::serve(listener, app).with_graceful_shutdown(interrupted()).await?;
    store.close().await?;
    Ok(())
}

async fn session_test(session: Session) -> fastsession::Result<Json<Value>> {
    let count = session.update("test_counter", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(Json(json!({ "test_counter": count })))
}

async fn page() -> Html<&'static str> {
    Html(include_str!("counter.html"))
}

async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}
