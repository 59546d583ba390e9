//! A part of the rows, and their index by deadline.

use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use hashbrown::{Equivalent, HashMap};

use crate::id::SessionId;
use crate::record::{IndexKey, Record};

#[derive(Default)]
pub(super) struct Shard {
    pub(super) rows: HashMap<SessionId, Record, BuildHasherDefault<IdHasher>>,
    pub(super) deadlines: Deadlines,
}

impl Shard {
    /// Files a row of this key, which took the place of `before`.
    pub(super) fn file(&mut self, id: &SessionId, before: Option<&Record>, key: IndexKey) {
        if before.is_none_or(|before| before.index_key() != key) {
            self.deadlines.entry(key).or_default().push(Tail::of(id));
        }
    }
}

type Deadlines = BTreeMap<IndexKey, Filed>;

/// What is filed under one bucket.
#[derive(Default)]
pub(super) struct Filed(pub(super) Vec<Tail>);

impl Filed {
    pub(super) fn push(&mut self, tail: Tail) {
        let Self(tails) = self;
        if tails.len() == tails.capacity() {
            tails.reserve_exact(tails.len() / 8 + 4);
        }
        tails.push(tail);
    }
}

/// The end of an ID, enough to find its row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail([u8; Tail::BYTES]);

impl Tail {
    const BYTES: usize = 12;

    fn of(id: &SessionId) -> Self {
        let mut tail = [0; Self::BYTES];
        tail.copy_from_slice(&id.as_bytes()[SessionId::LEN - Self::BYTES..]);
        Self(tail)
    }
}

impl Hash for Tail {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl Equivalent<SessionId> for Tail {
    fn equivalent(&self, id: &SessionId) -> bool {
        id.as_bytes().ends_with(&self.0)
    }
}

/// IDs are hashes: eight of their bytes are a hash.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(tail) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*tail);
        }
    }
}
