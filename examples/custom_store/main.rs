//! A store of your own under the layer, and what it has to do for that: `store.rs`.
//!
//! `cargo run --example custom_store [ADDRESS]` counts visits on 127.0.0.1:18083. The contract suite
//! runs against the store in `cargo test --example custom_store`.
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use axum::{Router, routing::get};
use fastsession::{CookieOptions, Session, SessionLayer, SessionStore};

use store::{MyStore, Options};

mod store;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18083".into());
    let store = MyStore::open(Options::default())?;
    // Plain HTTP, for a look at it on this machine.
    let sessions = SessionLayer::new(store.clone()).with_cookie(CookieOptions::insecure_http());
    let app = Router::new().route("/", get(counter)).layer(sessions);

    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    store.close().await?;
    Ok(())
}

async fn counter(session: Session) -> fastsession::Result<String> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(format!("{visits}\n"))
}

#[cfg(test)]
mod contract {
    use fastsession::testing::contract::{Opened, Setup, Suite};

    use super::store::{MyStore, Options};

    fn open(setup: &Setup) -> fastsession::Result<Opened> {
        let store = MyStore::open(Options {
            clock: setup.clock.clone(),
            sweep_interval: setup.sweep_interval,
            keep_ended: setup.keep_ended,
        })?;
        Ok(Opened::new(store))
    }

    // A sweep looks at every row here, so that thousands of rounds would take minutes.
    fastsession::contract_tests!(my_store, suite = super::Suite::new(super::open).rounds(100));
}
