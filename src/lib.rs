//! Server-side sessions for axum.

mod error;
mod expiry;
mod id;
#[allow(dead_code, unused_imports)]
mod keyring;

pub use error::{Error, Result};
pub use expiry::{Clock, Timeouts, Timestamp};
pub use id::{IdPrefix, SessionId, SessionToken};
pub use keyring::{Key, KeyId, KeyRing, KeyState};
