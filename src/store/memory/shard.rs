//! A part of the rows, and their index by deadline.

use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::RangeInclusive;

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
            self.deadlines.push(key, Tail::of(id));
            self.drop_stale();
        }
    }

    /// Makes the index anew from the rows where more than half of it is stale. As many entries have
    /// become so as there are rows, or more, and each pays for one of them.
    pub(super) fn drop_stale(&mut self) {
        if self.deadlines.entries <= 2 * self.rows.len() + FEW_STALE {
            return;
        }
        self.deadlines = Deadlines::default();
        for (id, record) in &self.rows {
            self.deadlines.push(record.index_key(), Tail::of(id));
        }
    }
}

/// So many stale entries are left alone, so that a shard of few rows is not at it all the time.
const FEW_STALE: usize = 32;

/// The index by deadline. An entry is stale once its row has left, or stands under another key.
#[derive(Default)]
pub(super) struct Deadlines {
    buckets: BTreeMap<IndexKey, Vec<Tail>>,
    /// In all buckets, stale ones too.
    entries: usize,
}

impl Deadlines {
    pub(super) fn push(&mut self, key: IndexKey, tail: Tail) {
        let tails = self.buckets.entry(key).or_default();
        if tails.len() == tails.capacity() {
            tails.reserve_exact(tails.len() / 8 + 4);
        }
        tails.push(tail);
        self.entries += 1;
    }

    /// Takes out all that is filed there.
    pub(super) fn take(&mut self, key: IndexKey) -> Vec<Tail> {
        let tails = self.buckets.remove(&key).unwrap_or_default();
        self.entries -= tails.len();
        tails
    }

    /// Puts back what is left of what was taken out.
    pub(super) fn put_back(&mut self, key: IndexKey, tails: Vec<Tail>) {
        if !tails.is_empty() {
            self.entries += tails.len();
            self.buckets.insert(key, tails);
        }
    }

    pub(super) fn keys(&self, range: RangeInclusive<IndexKey>) -> impl Iterator<Item = IndexKey> {
        self.buckets.range(range).map(|(key, _)| *key)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        let counted = self.buckets.values().map(Vec::len).sum();
        assert_eq!(self.entries, counted);
        counted
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
