//! For tests: ready sessions and signed-in requests for those of an application, the contract
//! suite for those of a store, and stores that the suite must reject.
//!
//! An application's handlers are called with a [`session`], its router with a request that is
//! [`signed_in`].
//!
//! A store of your own is held to the same rules as those of this crate by
//! [`contract_tests!`](crate::contract_tests), which makes one test of each check:
//!
//! ```
//! use fastsession::MemoryStore;
//! use fastsession::testing::contract::{Opened, Setup};
//!
//! fn open(setup: &Setup) -> fastsession::Result<Opened> {
//!     let store = MemoryStore::builder()
//!         .clock(setup.clock.clone())
//!         .sweep_interval(setup.sweep_interval)
//!         .keep_ended(setup.keep_ended)
//!         .build()?;
//!     Ok(Opened::new(store))
//! }
//!
//! fastsession::contract_tests!(memory, super::open);
//! # fn main() {}
//! ```
//!
//! Time is a [`Clock::manual`](crate::Clock::manual) that the suite moves; a store must read no
//! other.

#[cfg(feature = "axum")]
mod app;
pub mod broken;
pub mod contract;

#[cfg(feature = "axum")]
pub use app::{SignedIn, session, signed_in};
