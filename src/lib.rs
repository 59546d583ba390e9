//! Server-side sessions for axum.

mod error;
mod expiry;
mod id;
pub mod keyring;
pub mod record;
pub mod store;
mod value;

pub use error::{Error, Result};
pub use expiry::{Clock, Timeouts, Timestamp};
pub use id::{IdPrefix, SessionId, SessionToken};
pub use keyring::{KeyId, KeyRing};
pub use record::{EndedBy, Record, State};
pub use store::{Filter, MemoryStore, Selector, SessionCap, SessionStore, Summary};
