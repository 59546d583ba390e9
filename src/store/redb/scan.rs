//! Long reads: pages of summaries and statistics, on a thread of their own.

use std::ops::Bound;
use std::sync::Arc;

use redb::ReadableTableMetadata;

use super::snapshot::{Snapshot, read_record, shielded};
use super::tables;
use super::{Shared, failure};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::Record;
use crate::store::{Page, Query, Stats, Summary};

/// Most records one page looks at: a few milliseconds, so that a snapshot is never held for long.
const MAX_LOOKED_AT: usize = 5000;

/// One page.
pub(super) fn page(snapshot: &Snapshot, query: &Query) -> Result<Page> {
    shielded(|| match query.filter.wanted_user() {
        Some(user) => page_of_user(snapshot, query, user),
        None => page_of_all(snapshot, query),
    })
}

fn page_of_all(snapshot: &Snapshot, query: &Query) -> Result<Page> {
    let mut filling = Filling::new(snapshot, query);
    let (from, to) = (filling.from(), filling.last);
    let from = (from.as_ref().map(SessionId::as_bytes), Bound::Included(to.as_bytes()));
    let rows = snapshot.sessions.range::<&[u8; 32]>(from).map_err(failure::before_commit)?;
    for row in rows {
        let (key, value) = row.map_err(failure::before_commit)?;
        let id = SessionId::from_bytes(*key.value());
        if filling.is_full() {
            return Ok(filling.stop());
        }
        filling.look_at(id, read_record(&id, value.value()))?;
    }
    Ok(filling.page)
}

fn page_of_user(snapshot: &Snapshot, query: &Query, user: &str) -> Result<Page> {
    let mut filling = Filling::new(snapshot, query);
    let hash = tables::user_hash(user);
    let key = |id: &SessionId| tables::user_key(hash, id);
    let (from, to) = (filling.from(), key(&filling.last));
    let from = from.as_ref().map(key);
    let users = snapshot.txn.open_table(tables::USERS).map_err(failure::before_commit)?;
    let range = (from.as_ref(), Bound::Included(&to));
    for entry in users.range::<&[u8; 48]>(range).map_err(failure::before_commit)? {
        let (key, _) = entry.map_err(failure::before_commit)?;
        let id = tables::id_in(key.value());
        if filling.is_full() {
            return Ok(filling.stop());
        }
        if let Some(record) = snapshot.record(&id).transpose() {
            filling.look_at(id, record)?;
        }
    }
    Ok(filling.page)
}

/// A page on its way.
struct Filling<'a> {
    snapshot: &'a Snapshot,
    query: &'a Query,
    page: Page,
    last: SessionId,
    looked_at: usize,
    latest: Option<SessionId>,
}

impl<'a> Filling<'a> {
    fn new(snapshot: &'a Snapshot, query: &'a Query) -> Self {
        let (_, last) = query.filter.id_range();
        Self { snapshot, query, page: Page::default(), last, looked_at: 0, latest: None }
    }

    fn from(&self) -> Bound<SessionId> {
        let (first, _) = self.query.filter.id_range();
        match self.query.after {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        }
    }

    fn is_full(&self) -> bool {
        self.page.sessions.len() >= self.query.limit.max(1) || self.looked_at >= MAX_LOOKED_AT
    }

    fn stop(mut self) -> Page {
        self.page.next = self.latest;
        self.page
    }

    fn look_at(&mut self, id: SessionId, record: Result<Record>) -> Result<()> {
        self.looked_at += 1;
        self.latest = Some(id);
        let record = match record {
            Ok(record) => record,
            Err(error) if error.is_corrupt() => {
                self.page.corrupt.push(id);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let (at, filter) = (self.query.at, &self.query.filter);
        let endings = self.snapshot.endings(record.user())?;
        let unrecorded = self.snapshot.state.timing.touch_interval;
        if filter.matches(&id, &record, &endings, at, unrecorded) {
            self.page.sessions.push(Summary::new(id, &record, &endings, at));
        }
        Ok(())
    }
}

/// Sizes and counts; walks every table.
pub(super) fn stats(shared: &Arc<Shared>, snapshot: &Snapshot) -> Result<Stats> {
    let (records, stored_bytes) = snapshot.size()?;
    let file_bytes = std::fs::metadata(&shared.config.opener.path).ok().map(|meta| meta.len());
    let used = shielded(|| used_bytes(snapshot))?;
    let free_bytes = file_bytes.map(|bytes| bytes.saturating_sub(used));
    Ok(Stats { records, stored_bytes, file_bytes, free_bytes })
}

fn used_bytes(snapshot: &Snapshot) -> Result<u64> {
    let pages = |stats: redb::TableStats| {
        let pages = stats.leaf_pages() + stats.branch_pages();
        pages * 4096
    };
    let deadlines = snapshot.txn.open_table(tables::DEADLINES).map_err(failure::before_commit)?;
    let users = snapshot.txn.open_table(tables::USERS).map_err(failure::before_commit)?;
    Ok(pages(snapshot.sessions.stats().map_err(failure::before_commit)?)
        + pages(deadlines.stats().map_err(failure::before_commit)?)
        + pages(users.stats().map_err(failure::before_commit)?))
}
