//! Pages of summaries and statistics.
//!
//! What is read of one partition for one page is read by one script, at one moment, and a session
//! never leaves its partition: one that is renewed meanwhile is met once.

use std::sync::Arc;

use ::redis::Cmd;
use tokio::time::Instant;

use super::Shared;
use super::layout::{self, Partition, Row, State, UserHash};
use super::link::Kind;
use super::scripts;
use super::view::{array, bytes, number};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Endings, Record};
use crate::store::stored::StoredEnding;
use crate::store::{Page, Query, Stats, Summary, Timing};

/// Fewest and most records a script looks at.
const FEWEST: usize = 50;
const MOST: usize = 1000;
/// After so many bytes of records a script stops.
const MOST_BYTES: usize = 1024 * 1024;
/// Most records one page looks at.
const MAX_LOOKED_AT: usize = 5000;
/// Longer than any entry, and behind all of them.
const BEHIND: [u8; 49] = [0xff; 49];

/// Which entries of which index.
pub(super) struct Range<'a> {
    pub(super) index: String,
    /// By score instead of by member.
    pub(super) by_score: bool,
    pub(super) from: &'a [u8],
    pub(super) to: &'a [u8],
    pub(super) offset: usize,
    pub(super) limit: usize,
    /// Bytes of a member that come before the ID.
    pub(super) skipped: usize,
}

/// An entry of an index, and the row it is about.
pub(super) struct Found {
    pub(super) entry: Vec<u8>,
    pub(super) id: SessionId,
    pub(super) row: Result<Option<Row>>,
    pub(super) endings: Endings,
}

/// Entries of one partition at one moment.
pub(super) struct Scanned {
    pub(super) sealed_state: Vec<u8>,
    pub(super) state: State,
    pub(super) found: Vec<Found>,
    pub(super) more: bool,
}

impl Shared {
    pub(super) async fn scan(
        &self,
        partition: Partition,
        range: &Range<'_>,
        until: Instant,
    ) -> Result<Scanned> {
        let keys = &self.keys;
        let (state, endings) = (keys.state(partition), keys.endings(partition));
        let rows = keys.rows(partition);
        let by = if range.by_score { "score" } else { "lex" };
        let reply = self
            .link
            .run(&scripts::SCANNING, Kind::Read, until, |command: &mut Cmd| {
                command.arg(3).arg(&state).arg(&endings).arg(&range.index);
                command.arg(&rows).arg(by).arg(range.from).arg(range.to);
                command.arg(range.offset).arg(range.limit).arg(MOST_BYTES).arg(range.skipped);
            })
            .await?;
        let mut parts = array(reply.value)?.into_iter();
        let sealed_state = bytes(parts.next())?.unwrap_or_default();
        let state = State::open(&sealed_state)?;
        let more = number(parts.next().as_ref())? == 1;
        let mut items = parts.next().map(array).transpose()?.unwrap_or_default().into_iter();
        let mut found = Vec::new();
        while let Some(entry) = bytes(items.next())? {
            let (row, ending) = (bytes(items.next())?, bytes(items.next())?);
            let Some(id) = entry.get(range.skipped..).and_then(|rest| rest.first_chunk()) else {
                continue;
            };
            let id = SessionId::from_bytes(*id);
            let row = row.map(|row| Row::open(&id, &row)).transpose();
            let mut endings = Endings { everyone: state.everyone, user: None };
            if let (Ok(Some(row)), Some(ending)) = (&row, ending)
                && row.record.user().is_some()
            {
                let hash = layout::hash_of(row.record.user());
                endings.user = Some(StoredEnding::open(&hash, &ending)?.ending);
            }
            found.push(Found { entry, id, row, endings });
        }
        Ok(Scanned { sealed_state, state, found, more })
    }

    pub(super) async fn page(self: &Arc<Self>, query: &Query, until: Instant) -> Result<Page> {
        let timing = self.timing(until).await?;
        let (first, last) = query.filter.id_range();
        if query.after.is_some_and(|after| after >= last) {
            return Ok(Page::default());
        }
        let from = query.after.map_or(first, |after| first.max(after));
        let (from, to) = (self.keys.partition_of(&from), self.keys.partition_of(&last));
        match query.filter.listed_user() {
            None => self.page_of_all(query, timing, from, to, until).await,
            Some(user) => {
                let hash = layout::hash_of(Some(user));
                self.page_of_user(query, timing, hash, from, until).await
            }
        }
    }

    async fn page_of_all(
        &self,
        query: &Query,
        timing: Timing,
        from: Partition,
        to: Partition,
        until: Instant,
    ) -> Result<Page> {
        let mut filling = Filling::new(query, timing);
        for partition in self.keys.partitions().filter(|one| (from..=to).contains(one)) {
            let index = self.keys.ids(partition);
            let scanned = self.scan(partition, &filling.range(index, &[]), until).await?;
            if !filling.add(scanned) {
                return Ok(filling.stop());
            }
        }
        Ok(filling.page)
    }

    async fn page_of_user(
        self: &Arc<Self>,
        query: &Query,
        timing: Timing,
        hash: UserHash,
        from: Partition,
        until: Instant,
    ) -> Result<Page> {
        let asked = query.clone();
        let parts = self
            .everywhere(move |shared, partition| {
                let query = asked.clone();
                async move {
                    if partition < from {
                        return Ok(None);
                    }
                    let range = Filling::new(&query, timing);
                    let range = range.range(shared.keys.users(partition), &hash);
                    shared.scan(partition, &range, until).await.map(Some)
                }
            })
            .await;
        let mut filling = Filling::new(query, timing);
        for part in parts {
            if let Some(scanned) = part?
                && !filling.add(scanned)
            {
                return Ok(filling.stop());
            }
        }
        Ok(filling.page)
    }

    /// Counts records and measures them, some at a time.
    pub(super) async fn stats(&self, until: Instant) -> Result<Stats> {
        let mut stats = Stats::default();
        for partition in self.keys.partitions() {
            let mut command = ::redis::cmd("ZCARD");
            command.arg(self.keys.ids(partition));
            stats.records +=
                number(Some(&self.link.ask(&command, Kind::Read, until).await?.value))?;
            let (ids, rows) = (self.keys.ids(partition), self.keys.rows(partition));
            let mut from = b"-".to_vec();
            loop {
                // As many steps as there are thousands: each has a deadline of its own.
                let until = self.link.until();
                let reply = self
                    .link
                    .run(&scripts::MEASURING, Kind::Read, until, |command: &mut Cmd| {
                        command.arg(1).arg(&ids).arg(&rows).arg(&from).arg(MOST);
                    })
                    .await?;
                let mut parts = array(reply.value)?.into_iter();
                let last = bytes(parts.next())?.unwrap_or_default();
                stats.stored_bytes += number(parts.next().as_ref())?;
                if last.is_empty() {
                    break;
                }
                from = [b"(", &last[..]].concat();
            }
        }
        Ok(stats)
    }
}

/// A page on its way.
struct Filling<'a> {
    query: &'a Query,
    timing: Timing,
    page: Page,
    looked_at: usize,
    latest: Option<SessionId>,
    from: Vec<u8>,
    to: Vec<u8>,
}

impl<'a> Filling<'a> {
    fn new(query: &'a Query, timing: Timing) -> Self {
        let (first, last) = query.filter.id_range();
        let user = query.filter.listed_user().map(|user| layout::hash_of(Some(user)));
        let user: &[u8] = user.as_ref().map_or(&[], |hash| &hash[..]);
        let from = match query.after {
            Some(after) if after >= first => [b"(", user, after.as_bytes(), &BEHIND[..]].concat(),
            _ => [b"[", user, first.as_bytes()].concat(),
        };
        let to = [b"[", user, last.as_bytes(), &BEHIND[..]].concat();
        let page = Page::default();
        Self { query, timing, page, looked_at: 0, latest: None, from, to }
    }

    fn range(&self, index: String, user: &[u8]) -> Range<'_> {
        Range {
            index,
            by_score: false,
            from: &self.from,
            to: &self.to,
            offset: 0,
            limit: self.query.limit.clamp(FEWEST, MOST),
            skipped: user.len(),
        }
    }

    fn is_full(&self) -> bool {
        self.page.sessions.len() >= self.query.limit.max(1) || self.looked_at >= MAX_LOOKED_AT
    }

    fn stop(mut self) -> Page {
        self.page.next = self.latest;
        self.page
    }

    /// Adds what matches. False if the page ends here.
    fn add(&mut self, scanned: Scanned) -> bool {
        for found in scanned.found {
            if self.is_full() {
                return false;
            }
            self.looked_at += 1;
            self.latest = Some(found.id);
            match found.row {
                Ok(Some(row)) => self.look_at(found.id, &row.record, &found.endings),
                Ok(None) => {}
                Err(_) => self.page.corrupt.push(found.id),
            }
        }
        !scanned.more
    }

    fn look_at(&mut self, id: SessionId, record: &Record, endings: &Endings) {
        let (at, filter) = (self.query.at, &self.query.filter);
        if filter.matches(&id, record, endings, at, self.timing.touch_interval) {
            self.page.sessions.push(Summary::new(id, record, endings, at));
        }
    }
}
