//! Server-side sessions for axum.

#[cfg(feature = "cli")]
pub mod cli;
#[allow(dead_code, unused_imports)]
mod cookie;
mod error;
mod expiry;
mod id;
#[allow(dead_code, unused_imports)]
pub mod keyring;
pub mod record;
mod signer;
pub mod store;
mod value;

pub use cookie::{CookieOptions, CookieOptionsBuilder, SameSite};
pub use error::{Error, Result};
pub use expiry::{Clock, Timeouts, Timestamp};
pub use id::{IdPrefix, SessionId, SessionToken};
pub use keyring::{Key, KeyId, KeyRing, KeyState};
pub use record::{EndedBy, Record, State};
pub use signer::{SignerError, TimedSigner};
pub use store::{Filter, MemoryStore, Selector, SessionCap, SessionStore, Summary};
