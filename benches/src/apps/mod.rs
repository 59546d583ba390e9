//! The same application on each library.
//!
//! | route | what the handler does |
//! | --- | --- |
//! | `/ignore` | takes the session and does nothing with it |
//! | `/read` | reads one value, answers it |
//! | `/write` | writes one value that was not there before |
//! | `/fill` | writes 300 bytes, as a session has them |
//! | `/increment` | reads a counter, yields once, writes it; ours: `update` |
//! | `/set/a`, `/set/b` | reads, yields once, writes a key of its own |
//! | `/keys` | how many of the two keys there are |
//! | `/late_write` | reads, sleeps 3 ms, writes |
//! | `/late_logout` | sleeps 1 ms, logs out |

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::get;

pub(crate) mod axum_session;
pub(crate) mod floor;
pub(crate) mod keeping;
pub(crate) mod minimal;
pub(crate) mod ours;
pub(crate) mod plain;
pub(crate) mod tower_sessions;

/// The routes above.
const PATHS: [&str; 10] = [
    "/ignore",
    "/read",
    "/write",
    "/fill",
    "/increment",
    "/set/a",
    "/set/b",
    "/keys",
    "/late_write",
    "/late_logout",
];

/// The routes that `router`, which has `own`, lacks: to find one takes the same in every
/// application.
fn with_the_others(mut router: Router, own: &[&str]) -> Router {
    for path in PATHS.iter().filter(|path| !own.contains(path)) {
        router = router.route(path, get(async || "ok"));
    }
    router
}

/// The payload of a session: 300 bytes.
pub(crate) const PAYLOAD_BYTES: usize = 300;

pub(crate) fn payload() -> String {
    "p".repeat(PAYLOAD_BYTES)
}

/// A value that was not written before.
fn next_value() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

const LATE_WRITE: std::time::Duration = std::time::Duration::from_millis(3);
const LATE_LOGOUT: std::time::Duration = std::time::Duration::from_millis(1);
