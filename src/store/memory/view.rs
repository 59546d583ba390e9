//! The rows as one commit sees them.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{MutexGuard, RwLockWriteGuard};

use super::{Inner, Shard};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Endings, Record};
use crate::store::{Rows, Write};

/// The index by user: of the rows that carry no mark.
#[derive(Default)]
pub(super) struct Users {
    pub(super) sessions: HashMap<Box<str>, BTreeSet<SessionId>>,
}

impl Users {
    pub(super) fn remove(&mut self, user: &str, id: &SessionId) {
        if let Some(ids) = self.sessions.get_mut(user) {
            ids.remove(id);
            if ids.is_empty() {
                self.sessions.remove(user);
            }
        }
    }
}

/// The rows as one commit sees them: its own shard locked, and that of the new ID of a renewal,
/// the others one at a time.
pub(super) struct View<'a> {
    inner: &'a Inner,
    held: [Option<(usize, RwLockWriteGuard<'a, Shard>)>; 2],
    pub(super) users: Option<MutexGuard<'a, Users>>,
}

impl<'a> View<'a> {
    pub(super) fn of_one(inner: &'a Inner, id: &SessionId) -> Self {
        let number = Inner::shard_of(id);
        Self { inner, held: [Some((number, inner.shards[number].write())), None], users: None }
    }

    /// The same, with the index by user, which is locked first.
    pub(super) fn of_one_and_users(inner: &'a Inner, id: &SessionId) -> Self {
        let users = inner.users.lock();
        Self { users: Some(users), ..Self::of_one(inner, id) }
    }

    pub(super) fn hold(&mut self, id: &SessionId) {
        let number = Inner::shard_of(id);
        if self.held(number).is_none() {
            self.held[1] = Some((number, self.inner.shards[number].write()));
        }
    }

    fn held(&mut self, number: usize) -> Option<&mut Shard> {
        let mut held = self.held.iter_mut().flatten();
        held.find(|(held, _)| *held == number).map(|(_, shard)| &mut **shard)
    }

    pub(super) fn put(&mut self, write: Write) {
        let Write { id, before, after } = write;
        let (old, new) = (before.as_ref().and_then(Record::listed_user), after.listed_user());
        if let Some(users) = self.users.as_mut().filter(|_| old != new) {
            if let Some(user) = old {
                users.remove(user, &id);
            }
            if let Some(user) = new {
                users.sessions.entry(user.into()).or_default().insert(id);
            }
        }
        let (inner, number) = (self.inner, Inner::shard_of(&id));
        if let Some(shard) = self.held(number) {
            return inner.insert(shard, id, after);
        }
        // One that the cap ends. It is still there, and unmarked: whoever ends or removes a row
        // holds the index by user, as this view does.
        let mut shard = inner.shards[number].write();
        inner.insert(&mut shard, id, after);
    }
}

impl Rows for View<'_> {
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>> {
        let number = Inner::shard_of(id);
        Ok(match self.held(number) {
            Some(shard) => shard.rows.get(id).cloned(),
            None => self.inner.shards[number].read().rows.get(id).cloned(),
        })
    }

    fn endings(&mut self, user: Option<&str>) -> Result<Endings> {
        Ok(self.inner.endings_of(user))
    }

    fn generation(&mut self) -> Result<u64> {
        // The first ending makes it 1, and says so before it is answered.
        if !self.inner.any_ending.load(Ordering::Acquire) {
            return Ok(0);
        }
        Ok(self.inner.endings.read().generation)
    }

    fn sessions_of(&mut self, user: &str, limit: usize) -> Result<Vec<SessionId>> {
        let ids = self.users.as_ref().and_then(|users| users.sessions.get(user));
        Ok(ids.map_or_else(Vec::new, |ids| ids.iter().take(limit).copied().collect()))
    }

    fn keep_ended(&self) -> Duration {
        self.inner.keep_ended
    }
}
