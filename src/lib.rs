//! Server-side sessions for axum: the browser holds one signed cookie, a store holds the rest.
//!
//! ```no_run
//! # #[cfg(all(feature = "axum", feature = "redb"))] mod demo {
//! use axum::{Router, routing::get};
//! use fastsession::{RedbStore, Session, SessionLayer};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let store = RedbStore::open("sessions.redb")?;
//!     let app = Router::new()
//!         .route("/", get(counter))
//!         .layer(SessionLayer::new(store));
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:18080").await?;
//!     Ok(axum::serve(listener, app).await?)
//! }
//!
//! async fn counter(session: Session) -> fastsession::Result<String> {
//!     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
//!     Ok(format!("{visits}"))
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! # The parts
//!
//! - [`SessionLayer`] wraps a `Router`; [`Session`] is what a handler
//!   takes as an argument. Nothing is verified or loaded until a handler asks.
//! - [`MemoryStore`] and [`RedbStore`], or `RedisStore`, keep the sessions; [`SessionStore`] is the trait they
//!   implement, with its contract in [`store`] and its test suite in [`testing`].
//! - A [`SessionToken`] is the secret in the cookie; a [`SessionId`], derived from it, is the name
//!   it is stored, listed and logged under, and opens nothing.
//! - A [`KeyRing`] signs the cookie. It is kept by the store and rotated while serving.
//! - [`Error`] is one opaque type with predicates; what is the store's fault becomes a 503.
//! - The `fastsession` tool, which an application can also carry: [`cli`].
//!
//! How to do what applications do, with programs that compile: the
//! [guide](https://docs.rs/fastsession/latest/fastsession/guide/), with a page for
//! [whoever runs them](https://docs.rs/fastsession/latest/fastsession/guide/operations/).
//!
//! # Features
//!
//! `redb` ([`RedbStore`]), `axum` (layer and extractor) and `cli` (the tool) are on by default. An
//! application wants `default-features = false, features = ["redb", "axum"]`. `tower-sessions` runs
//! applications written for tower-sessions or axum-login on these stores; `metrics` measures for the
//! facade of that name.
//! `redis` (`RedisStore`) and `redis-tls` (the same over TLS) are opt in.

#[cfg(feature = "cli")]
pub mod cli;
#[cfg_attr(
    not(feature = "axum"),
    allow(dead_code, unused_imports, reason = "half of it answers requests")
)]
mod cookie;
mod error;
mod expiry;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, reason = "for the fuzzer, not for applications")]
pub mod fuzzing;
#[cfg(all(any(doc, doctest), feature = "axum", feature = "redb"))]
pub mod guide;
#[cfg(feature = "axum")]
mod header;
mod id;
mod keyring;
#[cfg(fastsession_leaks)]
mod leaks;
mod meter;
#[cfg(feature = "axum")]
pub mod middleware;
mod origin;
mod random;
pub mod record;
#[cfg_attr(
    not(feature = "axum"),
    allow(dead_code, unused_imports, reason = "half of it answers requests")
)]
pub mod session;
mod sha256;
mod signer;
pub mod store;
pub mod testing;
#[cfg(feature = "tower-sessions")]
pub mod tower_sessions;
mod value;
mod watch;

pub use cookie::{CookieOptions, CookieOptionsBuilder, SameSite};
pub use error::{Error, Result};
pub use expiry::{Clock, Timeouts, Timestamp};
#[cfg(feature = "axum")]
pub use header::HeaderOptions;
pub use id::{IdPrefix, SessionId, SessionToken};
pub use keyring::{Key, KeyId, KeyRing, KeyState};
#[cfg(feature = "axum")]
pub use middleware::SessionLayer;
pub use origin::Origin;
pub use record::{EndedBy, Record, State};
pub use session::{Counters, Realm, Session};
pub use signer::{SignerError, TimedSigner};
#[cfg(feature = "redis")]
pub use store::RedisStore;
#[cfg(feature = "redb")]
pub use store::{Durability, RedbStore};
pub use store::{Filter, MemoryStore, Selector, SessionCap, SessionStore, Summary};

/// The README's program compiles.
#[cfg(all(doctest, feature = "axum", feature = "redb"))]
#[doc = include_str!("../README.md")]
struct Readme;
