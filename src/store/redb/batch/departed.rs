//! Entries by user of sessions that were purged, removed after their rows.
//!
//! The index by user has an order of its own, so that each row of a purge would rewrite a page of
//! it. A step that removes many rows leaves these entries, adds their number to the file's state
//! ([`FileState::departed`](super::super::tables::FileState)) and their keys to a list in memory.
//! Once that is long, or nothing is due any more, they are removed in order of their keys: many
//! from each page. Until then they lead to no row, which whoever reads them passes over.
//!
//! If the process ends before that, the file's state still says how many there are, and the next
//! sweep that finds nothing due looks for them entry by entry. An import that brings one of these
//! sessions back makes its entry a right one again, or removes it if the session is over: then, too,
//! each is looked at first.

use redb::ReadableTable;
use std::ops::Bound;

use super::super::failure;
use super::super::tables;
use super::Batch;
use super::pass::Budget;
use crate::error::Result;
use crate::record::Record;
use crate::store::Write;

/// Steps that remove fewer rows of users remove their entries at once.
const FEW: usize = 64;
/// Most keys in memory: 12 MiB.
const MANY: usize = 256 * 1024;
/// Entries removed, or looked at, between two looks at the clock.
const RUN: usize = 64;

/// The keys known to this process.
#[derive(Default)]
pub(super) struct Departed {
    gathered: Vec<[u8; 48]>,
    /// In order, last first.
    leaving: Vec<[u8; 48]>,
    /// [`FileState::revived`](super::super::tables::FileState) when the first was gathered.
    revived: u64,
    /// The entry up to which the index was searched for those that nobody remembers.
    searched: Option<[u8; 48]>,
    /// How many there were when the store's own sweeping last found nothing due.
    before: Option<u64>,
}

impl Departed {
    fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.leaving.is_empty()
    }
}

impl Batch<'_> {
    /// Brings the index by user up to a row that is written.
    pub(super) fn list(&mut self, write: &Write) -> Result<()> {
        let Write { id, before, after } = write;
        let key = |user| tables::user_key(tables::user_hash(user), id);
        let old = before.as_ref().and_then(Record::listed_user).map(key);
        let new = after.listed_user().map(key);
        // One that is brought back as it ended has no entry, but may have left one.
        let left = after.user().map(key).filter(|_| before.is_none() && self.state.departed > 0);
        if old == new && left.is_none() {
            return Ok(());
        }
        let users = table!(self.users, tables::USERS)?;
        if let Some(old) = old {
            users.remove(&old).map_err(failure::before_commit)?;
        }
        let there = match (new, left) {
            (Some(new), _) => users.insert(&new, ()).map_err(failure::before_commit)?.is_some(),
            (None, Some(left)) => users.remove(&left).map_err(failure::before_commit)?.is_some(),
            (None, None) => false,
        };
        if there && self.state.departed > 0 {
            self.state.departed -= 1;
            self.state.revived += 1;
        }
        Ok(())
    }

    /// Removes the entries by user of rows that were removed, or leaves that for later.
    pub(super) fn depart(&mut self, mut keys: Vec<[u8; 48]>) -> Result<()> {
        if keys.len() < FEW {
            keys.sort_unstable();
            let users = table!(self.users, tables::USERS)?;
            for key in &keys {
                users.remove(key).map_err(failure::before_commit)?;
            }
            return Ok(());
        }
        let departed = &mut self.sweeping.departed;
        if departed.is_empty() {
            departed.revived = self.state.revived;
        }
        self.state.departed += keys.len() as u64;
        departed.gathered.append(&mut keys);
        Ok(())
    }

    /// Whether entries have to leave before more are gathered.
    pub(super) fn has_many_departed(&self) -> bool {
        let departed = &self.sweeping.departed;
        !departed.leaving.is_empty() || departed.gathered.len() >= MANY
    }

    /// Removes some entries, where nothing else is due. False if there is none left to remove.
    pub(super) fn clear_departed(&mut self, purge: bool, budget: &mut Budget) -> Result<bool> {
        if !self.sweeping.departed.is_empty() {
            self.remove_departed(budget)?;
            return Ok(true);
        }
        let count = self.state.departed;
        let departed = &mut self.sweeping.departed;
        // What another process has gathered leaves by itself: only what stays is searched for.
        let is_left = purge || departed.before == Some(count) || departed.searched.is_some();
        departed.before = Some(count);
        if count == 0 || !is_left {
            departed.searched = None;
            return Ok(false);
        }
        self.search_departed(budget)
    }

    pub(super) fn remove_departed(&mut self, budget: &mut Budget) -> Result<()> {
        let departed = &mut self.sweeping.departed;
        if departed.leaving.is_empty() {
            departed.leaving = std::mem::take(&mut departed.gathered);
            departed.leaving.sort_unstable_by(|a, b| b.cmp(a));
        }
        let is_certain = departed.revived == self.state.revived;
        let users = table!(self.users, tables::USERS)?;
        while let run @ 1.. = budget.rows(RUN).min(departed.leaving.len()) {
            budget.spend(run);
            for key in departed.leaving.drain(departed.leaving.len() - run..).rev() {
                let id = tables::id_in_user(&key);
                let row = |()| self.sessions.get(id.as_bytes()).map_err(failure::before_commit);
                let is_back = !is_certain && row(())?.is_some();
                if !is_back && users.remove(&key).map_err(failure::before_commit)?.is_some() {
                    self.changed = true;
                    self.state.departed = self.state.departed.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    /// Looks at some entries and removes those without a row. False at the end of the index.
    fn search_departed(&mut self, budget: &mut Budget) -> Result<bool> {
        let users = table!(self.users, tables::USERS)?;
        while let run @ 1.. = budget.rows(RUN) {
            budget.spend(run);
            let searched = self.sweeping.departed.searched;
            let from = searched.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let (mut seen, mut rowless) = (0, Vec::new());
            let range = (from, Bound::Unbounded);
            let entries = users.range::<&[u8; 48]>(range).map_err(failure::before_commit)?;
            for entry in entries.take(run) {
                let (key, _) = entry.map_err(failure::before_commit)?;
                let key = *key.value();
                let id = tables::id_in_user(&key);
                let row = self.sessions.get(id.as_bytes()).map_err(failure::before_commit)?;
                if row.is_none() {
                    rowless.push(key);
                }
                self.sweeping.departed.searched = Some(key);
                seen += 1;
            }
            for key in rowless {
                users.remove(&key).map_err(failure::before_commit)?;
                self.changed = true;
                self.state.departed = self.state.departed.saturating_sub(1);
            }
            if seen < run || self.state.departed == 0 {
                self.sweeping.departed.searched = None;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use redb::{ReadableDatabase, ReadableTableMetadata};

    use super::*;
    use crate::record::EndedBy;
    use crate::store::redb::tables::FileState;
    use crate::store::{
        Commit, Draft, Filter, Import, Login, Op, Query, RedbStore, SessionStore, Sweep,
    };
    use crate::{Clock, SessionId, SessionToken, Timestamp};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const SESSIONS: usize = 200;
    const STEP: usize = 100;

    fn over() -> Timestamp {
        NOW.saturating_add(Duration::from_secs(48 * 3600))
    }

    fn open(path: &Path) -> RedbStore {
        RedbStore::builder(path).clock(Clock::manual(NOW)).without_sweeping().open().unwrap()
    }

    async fn fill(store: &RedbStore) {
        for n in 0..SESSIONS {
            let login = Some(Login { user: format!("user-{}", n % 9).into(), cap: None });
            let op = Op::Create { realm: None, draft: Draft::default(), login };
            let id = SessionToken::generate().unwrap().id();
            let access = crate::store::Access::at(NOW);
            store.commit(Commit { id, access, max_data_bytes: 1, op }).await.unwrap();
        }
    }

    async fn step(store: &RedbStore, at: Timestamp) -> (u64, bool) {
        let swept = store.sweep(Sweep { at, limit: STEP, purge: true }).await.unwrap();
        (swept.removed, swept.more)
    }

    async fn finish(store: &RedbStore, at: Timestamp) {
        for _ in 0..100 {
            if !step(store, at).await.1 {
                return;
            }
        }
        panic!("purging comes to no end");
    }

    /// Sessions, entries by user, and how many of these the file says are of purged sessions.
    fn counts(store: &RedbStore) -> (u64, u64, u64) {
        let txn = store.shared.file().unwrap().database.begin_read().unwrap();
        let rows = txn.open_table(tables::SESSIONS).unwrap().len().unwrap();
        let entries = txn.open_table(tables::USERS).unwrap().len().unwrap();
        let meta = txn.open_table(tables::META).unwrap();
        let state = FileState::open(meta.get(tables::STATE).unwrap().unwrap().value()).unwrap();
        (rows, entries, state.departed)
    }

    fn assert_sound(path: &Path) {
        let report = RedbStore::builder(path).check().unwrap();
        assert!(report.is_sound(), "{report:?}");
    }

    #[tokio::test]
    async fn entries_by_user_follow_the_rows_of_a_purge() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        let store = open(&path);
        fill(&store).await;
        assert_eq!(step(&store, over()).await, (100, true));
        assert_eq!(counts(&store), (100, 200, 100), "they are left by a step that removes many");
        assert_sound(&path);
        finish(&store, over()).await;
        assert_eq!(counts(&store), (0, 0, 0));
        assert_sound(&path);
    }

    #[tokio::test]
    async fn entries_that_nobody_remembers_leave_with_the_next_purge() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        let store = open(&path);
        fill(&store).await;
        step(&store, over()).await;
        store.close().await.unwrap();
        let store = open(&path);
        assert_eq!(counts(&store), (100, 200, 100));
        finish(&store, NOW).await;
        assert_eq!(counts(&store), (100, 100, 0), "nothing was due at that time but they");
        assert_sound(&path);
    }

    #[tokio::test]
    async fn an_entry_of_a_session_that_came_back_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        let store = open(&path);
        fill(&store).await;
        let all = Query { filter: Filter::default(), after: None, limit: 1000, at: NOW };
        let records = store.records(&all).await.unwrap().records;
        step(&store, over()).await;
        let back: Vec<(SessionId, _)> = records.into_iter().collect();
        let imported = store.import(Import { records: back }).await.unwrap();
        assert_eq!((imported.imported, imported.same), (100, 100));
        assert_eq!(counts(&store), (200, 200, 0));
        finish(&store, NOW).await;
        assert_eq!(counts(&store), (200, 200, 0));
        assert_sound(&path);
    }

    #[tokio::test]
    async fn an_entry_of_a_session_that_came_back_ended_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        let store = open(&path);
        fill(&store).await;
        let all = Query { filter: Filter::default(), after: None, limit: 1000, at: NOW };
        let before = store.records(&all).await.unwrap().records;
        step(&store, over()).await;
        let mut gone = Vec::new();
        for (id, record) in before {
            if store.inspect(&id).await.unwrap().is_none() {
                gone.push((id, record));
            }
        }
        let ended = |(id, record): &(SessionId, Record)| {
            let keep = Duration::from_secs(3600);
            (*id, record.ended(NOW, EndedBy::Application, keep, Duration::ZERO).unwrap())
        };
        store.import(Import { records: gone.iter().map(ended).collect() }).await.unwrap();
        assert_eq!(counts(&store), (200, 100, 0));
        assert_sound(&path);
        // Gone again and back alive, while this process may still have the entries on its list.
        assert_eq!(step(&store, NOW).await.0, 100);
        store.import(Import { records: gone }).await.unwrap();
        finish(&store, NOW).await;
        assert_eq!(counts(&store), (200, 200, 0));
        assert_sound(&path);
    }
}
