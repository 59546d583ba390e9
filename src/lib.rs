//! Server-side sessions for axum.

#[cfg(feature = "cli")]
pub mod cli;
#[cfg_attr(not(feature = "axum"), allow(dead_code, unused_imports))]
mod cookie;
mod error;
mod expiry;
mod id;
#[allow(dead_code)]
mod keyring;
#[cfg(feature = "axum")]
pub mod middleware;
mod origin;
pub mod record;
#[cfg_attr(not(feature = "axum"), allow(dead_code, unused_imports))]
pub mod session;
mod signer;
pub mod store;
pub mod testing;
mod value;

pub use cookie::{CookieOptions, CookieOptionsBuilder, SameSite};
pub use error::{Error, Result};
pub use expiry::{Clock, Timeouts, Timestamp};
pub use id::{IdPrefix, SessionId, SessionToken};
pub use keyring::{Key, KeyId, KeyRing, KeyState};
#[cfg(feature = "axum")]
pub use middleware::SessionLayer;
pub use origin::Origin;
pub use record::{EndedBy, Record, State};
pub use session::{Realm, Session};
pub use signer::{SignerError, TimedSigner};
#[cfg(feature = "redb")]
pub use store::{Durability, RedbStore};
pub use store::{Filter, MemoryStore, Selector, SessionCap, SessionStore, Summary};
