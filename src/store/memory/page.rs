//! Pages of summaries.

use std::time::Duration;

use super::{Inner, SHARDS, Shard};
use crate::error::Result;
use crate::id::SessionId;
use crate::store::{Page, Query, Summary};

impl Inner {
    pub(super) fn page(&self, query: &Query) -> Result<Page> {
        self.open()?;
        let touch_interval = self.longest.get().touch_interval;
        let mut page = Page::default();
        match query.filter.listed_user() {
            Some(user) => {
                // Held throughout, so that none of them is renewed meanwhile.
                let users = self.users.lock();
                let ids = users.sessions.get(user).into_iter().flatten();
                for id in ids.filter(|id| is_wanted(query, id)) {
                    let shard = self.shards[Self::shard_of(id)].read();
                    self.list(&shard, *id, query, touch_interval, &mut page);
                    if page.next.is_some() {
                        break;
                    }
                }
            }
            None => self.page_of_all(query, touch_interval, &mut page),
        }
        Ok(page)
    }

    /// One shard after the other in order of ID. A renewal stays in its shard, so each session is
    /// met once.
    fn page_of_all(&self, query: &Query, touch_interval: Duration, page: &mut Page) {
        let (first, last) = query.filter.id_range();
        let first = query.after.map_or(first, |after| first.max(after));
        for byte in first.as_bytes()[0]..=last.as_bytes()[0] {
            let shard = self.shards[usize::from(byte) % SHARDS].read();
            let mut ids: Vec<_> = shard
                .rows
                .keys()
                .filter(|id| id.as_bytes()[0] == byte && is_wanted(query, id))
                .copied()
                .collect();
            ids.sort_unstable();
            for id in ids {
                self.list(&shard, id, query, touch_interval, page);
                if page.next.is_some() {
                    return;
                }
            }
        }
    }

    /// Adds a row to the page if it matches.
    fn list(
        &self,
        shard: &Shard,
        id: SessionId,
        query: &Query,
        touch_interval: Duration,
        page: &mut Page,
    ) {
        let Some(record) = shard.rows.get(&id) else { return };
        let endings = self.endings_of(record.user());
        if query.filter.matches(&id, record, &endings, query.at, touch_interval) {
            page.sessions.push(Summary::new(id, record, &endings, query.at));
            page.next = (page.sessions.len() >= query.limit.max(1)).then_some(id);
        }
    }
}

/// Whether it lies behind the last page and in the filter's range.
fn is_wanted(query: &Query, id: &SessionId) -> bool {
    let (first, last) = query.filter.id_range();
    (first..=last).contains(id) && query.after.is_none_or(|after| *id > after)
}
