//! Signing in, and a page with your devices: end one, end all others, sign out here or everywhere.
//! A device that is signed out from elsewhere shows it within a second.
//!
//! `cargo run --example login [ADDRESS [FILE [behind-tls]]]` serves on 127.0.0.1:18081 from
//! `login.redb`. Open it in two browsers to see them as two devices. With `behind-tls` it expects
//! a proxy before it that speaks HTTPS, and keeps the cookie as strict as it is by default.
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use axum::Form;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use fastsession::{
    CookieOptions, RedbStore, Selector, Session, SessionId, SessionLayer, SessionStore,
};
use serde::Deserialize;

mod page;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:18081".into());
    let file = args.next().unwrap_or_else(|| "login.redb".into());

    let behind_tls = args.next().is_some_and(|argument| argument == "behind-tls");

    let store = RedbStore::open(&file)?;
    // A page that asks by itself is no sign of a person.
    let mut sessions =
        SessionLayer::new(store.clone()).touch_when(|request| request.uri.path() != "/signed-in");
    if !behind_tls {
        // Plain HTTP, for a look at it on this machine.
        sessions = sessions.with_cookie(CookieOptions::insecure_http());
    }
    let app = Router::new()
        .route("/", get(home))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/logout-everywhere", post(logout_everywhere))
        .route("/end", post(end))
        .route("/end-others", post(end_others))
        .route("/signed-in", get(signed_in))
        .layer(sessions)
        .with_state(store.clone());

    let listener = tokio::net::TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    println!("http://{address} serves from {file}");
    axum::serve(listener, app).with_graceful_shutdown(interrupted()).await?;
    store.close().await?;
    Ok(())
}

async fn home(State(store): State<RedbStore>, session: Session) -> fastsession::Result<Response> {
    let html = match session.user().await? {
        Some(user) => {
            let (id, label) = (session.id().await?, session.label().await?);
            let others = session.siblings().await?;
            page::devices(&user, id, label.as_deref(), &others, store.clock().now())
        }
        None => page::sign_in(),
    };
    // So that the back button shows nothing after a logout.
    Ok(([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response())
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
}

async fn login(
    session: Session,
    headers: HeaderMap,
    Form(credentials): Form<Credentials>,
) -> fastsession::Result<Redirect> {
    let name = credentials.name.trim();
    // Here an application checks the password.
    if !name.is_empty() {
        session.login(name).await?;
        session.set_label(&device(&headers)).await?;
    }
    Ok(Redirect::to("/"))
}

async fn logout(session: Session) -> fastsession::Result<Redirect> {
    session.destroy().await?;
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct Ending {
    id: String,
}

async fn logout_everywhere(
    State(store): State<RedbStore>,
    session: Session,
) -> fastsession::Result<Redirect> {
    if let Some(user) = session.user().await? {
        store.expire(Selector::user(user)).await?;
    }
    Ok(Redirect::to("/"))
}

async fn end(
    State(store): State<RedbStore>,
    session: Session,
    Form(ending): Form<Ending>,
) -> fastsession::Result<Redirect> {
    // Only one of the user's own: an ID from a form is not to be trusted.
    let id: SessionId = ending.id.parse()?;
    if session.siblings().await?.iter().any(|sibling| sibling.id == id) {
        store.expire(Selector::ids([id])).await?;
    }
    Ok(Redirect::to("/"))
}

/// The page asks every second, and shows itself anew when the answer changes.
async fn signed_in(session: Session) -> fastsession::Result<&'static str> {
    Ok(if session.user().await?.is_some() { "yes" } else { "no" })
}

async fn end_others(session: Session) -> fastsession::Result<Redirect> {
    session.destroy_others().await?;
    Ok(Redirect::to("/"))
}

/// A name for the device that its user recognises.
fn device(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or_default();
    let first = |names: &[&'static str], otherwise| {
        names.iter().find(|name| agent.contains(**name)).copied().unwrap_or(otherwise)
    };
    let browser = first(&["Firefox", "Edg", "Chrome", "Safari", "curl"], "A browser");
    let system = first(&["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"], "a computer");
    format!("{browser} on {system}")
}

async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}
