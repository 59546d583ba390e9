//! `RedisStore` on real servers, which the tests start themselves.
//!
//! `FASTSESSION_ROUNDS` sets how often each race of the contract is run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]
#![allow(unreachable_pub, reason = "modules of one test binary")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/console.rs"]
mod console;
mod contract;
mod counter;
mod events;
mod faults;
mod live;
mod messages;
mod moving;
mod server;
#[cfg(feature = "redis-tls")]
mod tls;
mod warnings;
