//! One signing key and its ID.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::mac::{Begun, Prepared};
use super::scope::Scope;
use super::seal::VERSION;
use super::weak;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::random::fill_random;

/// Length of a MAC: HMAC-SHA256, not truncated.
pub(crate) const MAC_BYTES: usize = 32;

const ID_LABEL: &[u8] = b"fastsession key id\0";

/// The public name of a [`Key`]: the first 4 bytes of a hash of it.
///
/// It is derived, not drawn, so that every process that has the key gives it the same name.
/// `Display` and `FromStr` use 8 lower-case hexadecimal digits.
///
/// ```
/// let id: fastsession::KeyId = "00ff10aa".parse()?;
/// assert_eq!(id.to_string(), "00ff10aa");
/// assert!("00FF10AA".parse::<fastsession::KeyId>().is_err());
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; Self::LEN]);

impl KeyId {
    /// Length in bytes.
    pub const LEN: usize = 4;
    /// Length of the hexadecimal text.
    pub(crate) const TEXT_LEN: usize = Self::LEN * 2;

    /// The ID with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    fn of(secret: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(ID_LABEL).chain_update(secret).finalize();
        Self([digest[0], digest[1], digest[2], digest[3]])
    }

    /// The ID that `text` spells in the one way `Display` does.
    pub(crate) fn from_text(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let mut bytes = [0; Self::LEN];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08x}", u32::from_be_bytes(self.0)))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = Error;

    /// Fails unless `text` is 8 hexadecimal digits in lower case.
    fn from_str(text: &str) -> Result<Self> {
        Self::from_text(text.as_bytes()).ok_or_else(|| {
            Error::new(Kind::Invalid, "a key ID has 8 hexadecimal digits, in lower case")
        })
    }
}

/// What a [`Key`] does in its [`KeyRing`](super::KeyRing).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// It signs and verifies. Each ring has exactly one.
    Active,
    /// It verifies what it signed before, and what it verifies is signed again.
    #[non_exhaustive]
    Retiring {
        /// The first instant at which it no longer verifies.
        until: Timestamp,
    },
}

/// A secret of 32 to 64 bytes for HMAC-SHA256.
///
/// There is no way to read the bytes back. `Debug` prints the type and the ID, equality compares
/// secrets in constant time, and the bytes are wiped when the last clone is dropped. Clones share
/// the secret instead of copying it.
///
/// ```
/// use fastsession::Key;
///
/// let key = Key::generate()?;
/// assert_eq!(format!("{key:?}"), format!("Key({})", key.id()));
/// assert!(Key::from_bytes("my-secret-key").is_err_and(|error| error.is_invalid()));
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone)]
pub struct Key {
    secret: Arc<Secret>,
    id: KeyId,
    created_at: Timestamp,
    state: KeyState,
}

struct Secret {
    /// The key's ID as every cookie spells it.
    id_text: [u8; KeyId::TEXT_LEN],
    bytes: Zeroizing<Box<[u8]>>,
    /// With the key's two blocks already hashed, which is half the cost of a short MAC.
    mac: Hmac<Sha256>,
    /// The same, for cookies.
    cookies: Prepared,
    /// What the cookies of each scope begin with, hashed when the first of them is met.
    begun: [OnceLock<(Scope, Begun)>; KEPT_SCOPES],
}

/// An application has a layer or two; cookies of further ones cost two compressions more.
const KEPT_SCOPES: usize = 4;

impl Key {
    /// Least length of a secret, in bytes.
    pub const MIN_LEN: usize = 32;
    /// Greatest length of a secret, in bytes: past it, HMAC would use a hash of it instead.
    pub const MAX_LEN: usize = 64;

    /// A new key of 32 bytes from the operating system's generator.
    ///
    /// Fails if the generator fails; there is no other source to fall back on.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; Self::MIN_LEN]);
        fill_random(&mut *bytes)?;
        Self::from_secret(&*bytes)
    }

    /// The key with this secret, which should be 32 bytes or more from a secure random generator.
    ///
    /// Refused (`is_invalid()`) are secrets shorter than 32 or longer than 64 bytes, and those
    /// that nobody drew at random: a repeated byte or pattern, a sequence, a handful of different
    /// bytes, or one of the placeholders found in documentation. Passing is no proof of
    /// strength.
    pub fn from_bytes(secret: impl AsRef<[u8]>) -> Result<Self> {
        let secret = secret.as_ref();
        let key = Self::from_secret(secret)?;
        match weak::weakness(secret) {
            Some(weakness) => Err(Error::new(
                Kind::Invalid,
                format!("the signing key {weakness}; use 32 bytes from a secure random generator"),
            )),
            None => Ok(key),
        }
    }

    /// The key with this secret, if its length is right.
    pub(super) fn from_secret(secret: &[u8]) -> Result<Self> {
        let wrong_length = || {
            Error::new(
                Kind::Invalid,
                format!(
                    "a signing key has {} to {} bytes, not {}",
                    Self::MIN_LEN,
                    Self::MAX_LEN,
                    secret.len()
                ),
            )
        };
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&secret.len()) {
            return Err(wrong_length());
        }
        #[cfg(fastsession_leaks)]
        crate::leaks::secret(secret);
        let mac = Hmac::new_from_slice(secret).map_err(|_| wrong_length())?;
        let id = KeyId::of(secret);
        let mut id_text = [0; KeyId::TEXT_LEN];
        id_text.copy_from_slice(id.to_string().as_bytes());
        Ok(Self {
            secret: Arc::new(Secret {
                id_text,
                bytes: Zeroizing::new(secret.into()),
                mac,
                cookies: Prepared::new(secret).ok_or_else(wrong_length)?,
                begun: Default::default(),
            }),
            id,
            created_at: Timestamp::from_millis(0),
            state: KeyState::Active,
        })
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The text of its public name.
    pub(super) fn id_text(&self) -> &[u8; KeyId::TEXT_LEN] {
        &self.secret.id_text
    }

    /// When a store put it into its ring. The Unix epoch for the application's own keys, whose
    /// age only the application knows.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// What it does in its ring; [`KeyState::Active`] while it is in none.
    pub fn state(&self) -> KeyState {
        self.state
    }

    /// True if what it signed is still accepted at `at`.
    pub fn verifies_at(&self, at: Timestamp) -> bool {
        match self.state {
            KeyState::Active => true,
            KeyState::Retiring { until } => at < until,
        }
    }

    pub(super) fn with_created_at(self, created_at: Timestamp) -> Self {
        Self { created_at, ..self }
    }

    pub(super) fn with_state(self, state: KeyState) -> Self {
        Self { state, ..self }
    }

    /// The secret, for the encoded ring and nothing else.
    pub(super) fn expose(&self) -> &[u8] {
        &self.secret.bytes
    }

    /// The MAC over `parts`, one after the other. The caller keeps apart where they end.
    pub(crate) fn mac(&self, parts: [&[u8]; 2]) -> [u8; MAC_BYTES] {
        self.absorb(parts).finalize().into_bytes().into()
    }

    /// True if `mac` is the MAC over `parts`. Takes the same time wherever they differ.
    pub(crate) fn verifies(&self, parts: [&[u8]; 2], mac: &[u8; MAC_BYTES]) -> bool {
        self.absorb(parts).verify_slice(mac).is_ok()
    }

    /// The MAC of a cookie: over its scope, version and this key's ID, and the text of its token.
    pub(super) fn mac_of_token<const N: usize>(&self, scope: &Scope, text: &[u8; N]) -> [u8; 32] {
        let Secret { cookies, begun, .. } = &*self.secret;
        for place in begun {
            let (known, begun) = place.get_or_init(|| (scope.clone(), self.begin(scope)));
            // Nearly always it is the very one.
            if Arc::ptr_eq(&known.context, &scope.context) || known == scope {
                return cookies.mac(begun, text);
            }
        }
        cookies.mac(&self.begin(scope), text)
    }

    fn begin(&self, scope: &Scope) -> Begun {
        let beginning = [&*scope.context, VERSION, self.id_text(), b"."].concat();
        let (blocks, rest) = beginning.as_chunks();
        debug_assert!(rest.is_empty(), "a scope is as long as makes whole blocks");
        self.secret.cookies.begin(blocks)
    }

    #[inline]
    fn absorb(&self, parts: [&[u8]; 2]) -> Hmac<Sha256> {
        let mut mac = self.secret.mac.clone();
        // In place: the state is some 200 bytes, and moving it costs as much as a block.
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let same_secret: bool = self.expose().ct_eq(other.expose()).into();
        same_secret && self.created_at == other.created_at && self.state == other.state
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}
