//! For the tests of applications.

#[cfg(feature = "axum")]
mod app;

#[cfg(feature = "axum")]
pub use app::{SignedIn, session, signed_in};
