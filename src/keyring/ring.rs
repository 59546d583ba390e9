//! The immutable set of keys.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::codec;
use super::key::{Key, KeyId, KeyState};
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;

/// The keys that sign and verify session cookies: one active key, and those that are retiring.
///
/// Immutable and cheap to clone. A store makes and keeps its own; an application that keeps its
/// secrets elsewhere passes one made with [`KeyRing::new`].
///
/// ```
/// use fastsession::{Key, KeyRing};
///
/// let (this_year, last_year) = (Key::generate()?, Key::generate()?);
/// let ring = KeyRing::new([this_year.clone(), last_year])?;
/// assert_eq!(ring.active().id(), this_year.id());
/// assert_eq!(ring.keys().count(), 2);
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing(Arc<Ring>);

#[derive(Debug, PartialEq, Eq)]
struct Ring {
    version: u64,
    active: Key,
    retiring: Vec<Key>,
}

impl KeyRing {
    /// How many keys a ring holds at most.
    pub const MAX_KEYS: usize = 16;

    /// The application's own ring: the first key signs, all of them verify without end.
    ///
    /// Fails (`is_invalid()`) without a key, with more than [`KeyRing::MAX_KEYS`], or if two have
    /// the same ID.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self> {
        let forever = KeyState::Retiring { until: Timestamp::MAX };
        let mut keys = keys.into_iter();
        let active = keys
            .next()
            .ok_or_else(|| Error::new(Kind::Invalid, "a key ring needs at least one key"))?
            .with_state(KeyState::Active);
        // One more than fits is enough to see that it does not.
        let retiring =
            keys.take(Self::MAX_KEYS).map(|key| key.with_state(forever)).collect::<Vec<_>>();
        if retiring.len() == Self::MAX_KEYS {
            return Err(Error::new(
                Kind::Invalid,
                format!("a key ring holds at most {} keys", Self::MAX_KEYS),
            ));
        }
        Self::assemble(1, active, retiring)
    }

    /// A ring of one new key, created at `at`: what a store starts with.
    ///
    /// Fails if the operating system's generator fails.
    pub fn generate(at: Timestamp) -> Result<Self> {
        Self::assemble(1, Key::generate()?.with_created_at(at), Vec::new())
    }

    /// The key that signs.
    pub fn active(&self) -> &Key {
        &self.0.active
    }

    /// All keys: the active one, then the retiring ones, last retired first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.0.active).chain(&self.0.retiring)
    }

    /// The key with this ID.
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        self.keys().find(|key| key.id() == id)
    }

    /// Higher by one with each change, so that of two rings of a store the later one is known.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The ring with a new key as the active one; the former verifies for `retire_after` more.
    ///
    /// Keys whose time is over are left out. Fails (`is_full()`) if it would still have more than
    /// [`KeyRing::MAX_KEYS`] keys.
    pub fn rotated(&self, at: Timestamp, retire_after: Duration) -> Result<Self> {
        self.rotated_to(Key::generate()?, at, retire_after)
    }

    /// Like [`rotated`](Self::rotated), with a key brought from elsewhere.
    ///
    /// Fails (`is_invalid()`) if the ring has a key with this ID already.
    pub fn rotated_to(&self, key: Key, at: Timestamp, retire_after: Duration) -> Result<Self> {
        let former = KeyState::Retiring { until: at.saturating_add(retire_after) };
        let retiring = std::iter::once(self.active().clone().with_state(former))
            .chain(self.0.retiring.iter().cloned())
            .filter(|key| key.verifies_at(at))
            .collect::<Vec<_>>();
        if retiring.len() == Self::MAX_KEYS {
            return Err(Error::new(
                Kind::Full,
                format!(
                    "the key ring holds {} keys that still verify, and no more fit; \
                     wait until one has retired, or retire one now",
                    Self::MAX_KEYS
                ),
            ));
        }
        let active = key.with_created_at(at).with_state(KeyState::Active);
        Self::assemble(self.next_version(), active, retiring)
    }

    /// The ring with the keys of `other`, too, as retiring ones: its active key verifies for
    /// `retire_after` more, the others for as long as there.
    ///
    /// A key that both have verifies for the longer time. Keys whose time is over are left out.
    /// Fails (`is_full()`) if it would have more than [`KeyRing::MAX_KEYS`] keys.
    pub fn merged(&self, other: &Self, at: Timestamp, retire_after: Duration) -> Result<Self> {
        let longest = at.saturating_add(retire_after);
        let until = |key: &Key| match key.state() {
            KeyState::Active => longest,
            KeyState::Retiring { until } => until,
        };
        let mut retiring = self.0.retiring.clone();
        for key in other.keys().filter(|key| key.id() != self.active().id()) {
            match retiring.iter_mut().find(|known| known.id() == key.id()) {
                Some(known) => {
                    let until = until(known).max(until(key));
                    *known = known.clone().with_state(KeyState::Retiring { until });
                }
                None => {
                    let state = KeyState::Retiring { until: until(key) };
                    retiring.push(key.clone().with_state(state));
                }
            }
        }
        retiring.retain(|key| key.verifies_at(at));
        if retiring == self.0.retiring {
            return Ok(self.clone());
        }
        if retiring.len() >= Self::MAX_KEYS {
            return Err(Error::new(
                Kind::Full,
                format!("both rings have more than {} keys that still verify", Self::MAX_KEYS),
            ));
        }
        Self::assemble(self.next_version(), self.active().clone(), retiring)
    }

    /// The ring without this retiring key, whose cookies are refused from then on.
    ///
    /// The active key is refused (`is_invalid()`); an unknown one is `is_not_found()`.
    pub fn retired(&self, id: KeyId) -> Result<Self> {
        if id == self.active().id() {
            return Err(Error::new(
                Kind::Invalid,
                format!("key {id} is the active one and cannot be retired; rotate first"),
            ));
        }
        let mut retiring = self.0.retiring.clone();
        retiring.retain(|key| key.id() != id);
        if retiring.len() == self.0.retiring.len() {
            return Err(Error::new(Kind::NotFound, format!("the ring has no key {id}")));
        }
        Self::assemble(self.next_version(), self.active().clone(), retiring)
    }

    /// The ring with its secrets, as a store keeps it.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        codec::encode(self)
    }

    /// The ring that [`encode`](Self::encode) wrote.
    ///
    /// Fails (`is_corrupt()`) on anything else, whatever the bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        codec::decode(bytes)
            .ok_or_else(|| Error::new(Kind::Corrupt, "the stored key ring cannot be read"))
    }

    pub(super) fn assemble(version: u64, active: Key, retiring: Vec<Key>) -> Result<Self> {
        let ring = Self(Arc::new(Ring { version, active, retiring }));
        let mut ids = ring.keys().map(Key::id).collect::<Vec<_>>();
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::new(
                Kind::Invalid,
                format!("two keys of the ring have the ID {}", pair[0]),
            )),
            None => Ok(ring),
        }
    }

    fn next_version(&self) -> u64 {
        self.0.version.saturating_add(1)
    }
}
