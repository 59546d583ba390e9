//! The secret in the cookie and the name it is stored under.
//!
//! Two types, so that the compiler keeps apart what may be logged from what must not: a
//! [`SessionToken`] opens a session and lives in the cookie and in memory only; a [`SessionId`]
//! is derived from it one way, is the database key, and opens nothing.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;

use crate::error::{Error, Kind, Result};
use crate::random::fill_token;
use crate::sha256::hash_secret;

const SHARD_BYTES: usize = 2;
const SECRET_BYTES: usize = 32;

/// The secret that a browser holds: 2 shard bytes and 32 random bytes.
///
/// The shard bytes are kept by a renewal, so that a cluster can keep the old and the new session
/// in one slot and replace one by the other in one step. They are random, too, but nothing rests
/// on that.
///
/// There is no `Display`, `Debug` prints `SessionToken(..)`, equality takes constant time, and
/// the bytes are wiped when it is dropped.
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct SessionToken([u8; Self::LEN]);

impl SessionToken {
    /// Length in bytes.
    pub const LEN: usize = SHARD_BYTES + SECRET_BYTES;

    /// A new token, 256 random bits from the operating system's generator, which each thread asks
    /// for thirty tokens at a time.
    ///
    /// Fails if the generator fails; there is no other source to fall back on.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; Self::LEN];
        fill_token(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// A new token in the shard of this session, for the one it is renewed to.
    ///
    /// Fails as [`generate`](Self::generate) does.
    pub fn in_shard_of(id: &SessionId) -> Result<Self> {
        let mut bytes = [0; Self::LEN];
        bytes[..SHARD_BYTES].copy_from_slice(&id.0[..SHARD_BYTES]);
        fill_token(&mut bytes[SHARD_BYTES..])?;
        Ok(Self::from_bytes(bytes))
    }

    /// The ID under which the session of this token is stored.
    pub fn id(&self) -> SessionId {
        SessionId::of_token(|bytes| *bytes = self.0).0
    }

    /// The token's bytes, for a cookie and nothing else.
    pub(crate) fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        #[cfg(fastsession_leaks)]
        crate::leaks::secret(&bytes);
        Self(bytes)
    }

    /// A token that comes in with a cookie: `read` fills its bytes, or says that there is none.
    pub(crate) fn read(read: impl FnOnce(&mut [u8; Self::LEN]) -> bool) -> Option<Self> {
        let mut token = Self([0; Self::LEN]);
        Self::read_into(&mut token.0, read).then_some(token)
    }

    /// All zeros are what a generator yields that does not work.
    #[inline]
    fn read_into(
        bytes: &mut [u8; Self::LEN],
        read: impl FnOnce(&mut [u8; Self::LEN]) -> bool,
    ) -> bool {
        read(bytes) && bytes.iter().fold(0, |seen, byte| seen | byte) != 0
    }
}

impl PartialEq for SessionToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SessionToken {}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// The name of a session: database key, log field, what the CLI prints.
///
/// The token's shard bytes, then the first 30 bytes of SHA-256(token). Knowing it opens nothing,
/// and it is never accepted from a client.
///
/// `Display` and `FromStr` use 64 lower-case hexadecimal digits; a precision shortens it, as in
/// `{:.8}`.
///
/// ```
/// let id = fastsession::SessionToken::generate()?.id();
/// assert_eq!(id.to_string().parse::<fastsession::SessionId>()?, id);
/// assert_eq!(format!("{id:.8}").len(), 8);
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; Self::LEN]);

impl SessionId {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The ID with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The ID of the token that [`SessionToken::read`] would make of the same, which is nowhere but
    /// where it is hashed.
    #[inline]
    pub(crate) fn read_token(
        read: impl FnOnce(&mut [u8; SessionToken::LEN]) -> bool,
    ) -> Option<Self> {
        let (id, is_token) = Self::of_token(|bytes| SessionToken::read_into(bytes, read));
        is_token.then_some(id)
    }

    /// The ID of the token that `write` writes, and its answer.
    #[inline]
    fn of_token<T>(write: impl FnOnce(&mut [u8; SessionToken::LEN]) -> T) -> (Self, T) {
        let mut id = [0; Self::LEN];
        let (digest, written) = hash_secret(|bytes| {
            let written = write(bytes);
            id[..SHARD_BYTES].copy_from_slice(&bytes[..SHARD_BYTES]);
            written
        });
        id[SHARD_BYTES..].copy_from_slice(&digest[..Self::LEN - SHARD_BYTES]);
        (Self(id), written)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; Self::LEN * 2];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl FromStr for SessionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match IdPrefix::from_str(text) {
            Ok(prefix) if prefix.digits == Self::LEN * 2 => Ok(Self(prefix.low)),
            _ => Err(Error::new(Kind::Invalid, "a session ID has 64 hexadecimal digits")),
        }
    }
}

/// The first digits of a [`SessionId`], as an operator types them.
///
/// ```
/// let prefix: fastsession::IdPrefix = "3fa9c".parse()?;
/// let (first, last) = prefix.range();
/// assert!(first.to_string().starts_with("3fa9c0000"));
/// assert!(last.to_string().starts_with("3fa9cffff"));
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdPrefix {
    low: [u8; SessionId::LEN],
    digits: usize,
}

impl IdPrefix {
    /// The smallest and the largest ID that begin with these digits.
    pub fn range(&self) -> (SessionId, SessionId) {
        let mut high = self.low;
        for digit in self.digits..SessionId::LEN * 2 {
            high[digit / 2] |= if digit % 2 == 0 { 0xf0 } else { 0x0f };
        }
        (SessionId(self.low), SessionId(high))
    }
}

impl FromStr for IdPrefix {
    type Err = Error;

    /// Fails unless `text` is 1 to 64 hexadecimal digits, of either case.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            Error::new(
                Kind::Invalid,
                "a session ID, or its beginning, is 1 to 64 hexadecimal digits",
            )
        };
        if text.is_empty() || text.len() > SessionId::LEN * 2 {
            return Err(invalid());
        }
        let mut low = [0; SessionId::LEN];
        for (position, digit) in text.chars().enumerate() {
            let value =
                digit.to_digit(16).and_then(|v| u8::try_from(v).ok()).ok_or_else(invalid)?;
            low[position / 2] |= if position % 2 == 0 { value << 4 } else { value };
        }
        Ok(Self { low, digits: text.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Timestamp;
    use crate::keyring::{Key, KeyRing};
    use crate::random::GENERATOR_FAILS;
    use crate::store::{Freshness, KeyChange, MemoryStore, SessionStore};
    use std::time::Duration;

    /// From now on nothing is random on this thread, nor is anything left that was drawn before.
    fn fail() {
        GENERATOR_FAILS.set(true);
        let failed = (0..100).find_map(|_| SessionToken::generate().err());
        assert!(failed.is_some_and(|error| error.is_unavailable()));
    }

    #[test]
    fn security_02_a_failing_generator_is_an_error_and_no_session() {
        let at = Timestamp::from_millis(1_800_000_000_000);
        let token = SessionToken::generate().unwrap();
        let ring = KeyRing::generate(at).unwrap();
        let store = MemoryStore::new().unwrap();
        fail();
        assert!(SessionToken::generate().unwrap_err().is_unavailable());
        assert!(SessionToken::in_shard_of(&token.id()).unwrap_err().is_unavailable());
        assert!(Key::generate().unwrap_err().is_unavailable());
        assert!(KeyRing::generate(at).unwrap_err().is_unavailable());
        assert!(ring.rotated(at, Duration::ZERO).unwrap_err().is_unavailable());
        assert!(MemoryStore::new().is_err_and(|error| error.is_unavailable()));
        let now = |answer: crate::store::Answer<KeyRing>| answer.now().ok().unwrap();
        let before = now(store.keys(Freshness::Current)).unwrap();
        let rotate = KeyChange::Rotate { at, retire_after: None };
        assert!(now(store.change_keys(rotate)).unwrap_err().is_unavailable());
        assert_eq!(now(store.keys(Freshness::Current)).unwrap(), before);
        GENERATOR_FAILS.set(false);
        assert!(SessionToken::generate().is_ok());
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn security_02_without_randomness_nobody_gets_a_session() {
        let store = MemoryStore::new().unwrap();
        let session = crate::testing::session(&store);
        session.insert("k", &1).await.unwrap();
        fail();
        assert!(session.save().await.unwrap_err().is_unavailable());
        assert!(session.login("alice").await.is_err() || session.save().await.is_err());
        GENERATOR_FAILS.set(false);
        assert_eq!(store.stats().await.unwrap().records, 0);
        session.save().await.unwrap();
        assert_eq!(store.stats().await.unwrap().records, 1);
    }
}
