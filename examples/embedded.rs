//! An application that carries the tool as a subcommand of its own.
//!
//! ```console
//! $ cargo run --example embedded
//! $ cargo run --example embedded -- sessions list
//! ```
//!
//! The same binary, the same user and the same version look at the sessions that it serves.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, not a library")]

use std::process::ExitCode;

use axum::{Router, routing::get};
use fastsession::{CookieOptions, RedbStore, Session, SessionLayer};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|verb| verb == "sessions") {
        // The first word is what messages call the program.
        return fastsession::cli::run(["embedded sessions".into()].into_iter().chain(args));
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let store = RedbStore::open("sessions.redb")?;
    let layer = SessionLayer::new(store).with_cookie(CookieOptions::insecure_http());
    let app = Router::new().route("/", get(counter)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:18080").await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn counter(session: Session) -> fastsession::Result<String> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(format!("{visits}"))
}
