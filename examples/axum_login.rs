//! axum-login on a session file: `user_id` from the users' table, sessions listed and ended by
//! `fastsession`.
//!
//! `cargo run --example axum_login --features tower-sessions [ADDRESS [FILE]]` serves on
//! 127.0.0.1:18082 from `axum_login.redb`. Sign in as `ferris` with `hunter42`; then
//! `fastsession --db axum_login.redb list` and `… expire --user 1`.
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::convert::Infallible;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use axum_login::tower_sessions::SessionManagerLayer;
use axum_login::{AuthManagerLayerBuilder, AuthUser, AuthnBackend, UserId, login_required};
use fastsession::tower_sessions::Store;
use fastsession::{RedbStore, SessionStore};
use serde::Deserialize;

#[derive(Clone, Debug)]
struct User {
    id: i64,
    name: &'static str,
    /// A real table has a hash here.
    password: &'static str,
}

const USERS: &[User] = &[
    User { id: 1, name: "ferris", password: "hunter42" },
    User { id: 2, name: "corro", password: "hunter43" },
];

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> i64 {
        self.id
    }

    /// So that a new password ends the sessions that were begun with the old one.
    fn session_auth_hash(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

#[derive(Clone, Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

#[derive(Clone)]
struct Users;

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, given: Credentials) -> Result<Option<User>, Infallible> {
        let known = |user: &&User| user.name == given.name && user.password == given.password;
        Ok(USERS.iter().find(known).cloned())
    }

    async fn get_user(&self, id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(USERS.iter().find(|user| user.id == *id).cloned())
    }
}

type AuthSession = axum_login::AuthSession<Users>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:18082".into());
    let file = args.next().unwrap_or_else(|| "axum_login.redb".into());

    let redb = RedbStore::open(&file)?;
    // Plain HTTP, for a look at it on this machine.
    let sessions = SessionManagerLayer::new(Store::for_axum_login(redb.clone())).with_secure(false);
    let auth = AuthManagerLayerBuilder::new(Users, sessions).build();
    let app = Router::new()
        .route("/", get(home))
        .route_layer(login_required!(Users, login_url = "/login"))
        .route("/login", get(form).post(login))
        .route("/logout", post(logout))
        .layer(auth);

    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{} serves from {file}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(interrupted()).await?;
    redb.close().await?;
    Ok(())
}

async fn home(auth: AuthSession) -> Html<String> {
    let name = auth.user.map_or("nobody", |user| user.name);
    Html(format!(
        "<p>Hello, {name}.<form method=post action=/logout><button>Sign out</button></form>"
    ))
}

async fn form() -> Html<&'static str> {
    Html(
        "<form method=post><input name=name placeholder=Name autofocus>\
         <input name=password type=password placeholder=Password><button>Sign in</button></form>",
    )
}

async fn login(mut auth: AuthSession, Form(credentials): Form<Credentials>) -> Response {
    match auth.authenticate(credentials).await {
        Ok(Some(user)) if auth.login(&user).await.is_ok() => Redirect::to("/").into_response(),
        Ok(None) => Redirect::to("/login").into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn logout(mut auth: AuthSession) -> Response {
    match auth.logout().await {
        Ok(_) => Redirect::to("/login").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}
