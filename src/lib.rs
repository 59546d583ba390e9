//! Server-side sessions for axum.

mod error;
mod expiry;
mod id;

pub use error::{Error, Result};
pub use expiry::{Clock, Timeouts, Timestamp};
pub use id::{IdPrefix, SessionId, SessionToken};
