//! Logins under a cap in a cluster, where a user's sessions lie in several partitions.
//!
//! They are counted under a lock of the user's: a key with a lease. The new session is committed
//! as any other; what the cap ends is ended after it, each session for itself.

use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;
use tokio::time::Instant;

use super::Shared;
use super::commit::{ids_of, pause_after};
use super::layout::STORE;
use super::link::Kind;
use super::plan::{Plan, Tried};
use super::view::{View, Wanted};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::random::fill_random;
use crate::record::{EndedBy, Record};
use crate::store::{Applied, Commit, End, Filter, Outcome, SessionCap, Target, apply};

/// Between two looks at a lock that somebody else has.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// More than a server has, and a number to it.
const MOST: usize = 1 << 30;

impl Shared {
    /// How many sessions of a user are read in each partition. They are spread by chance: four
    /// times what is a partition's share leaves out none of so many, and no partition is left out
    /// in which there may be all that the cap allows.
    pub(super) fn sessions_looked_at(&self, cap: &SessionCap) -> usize {
        let most = cap.most_looked_at();
        let most = if self.keys.is_one() {
            most
        } else {
            let share = most.div_ceil(self.keys.partitions().count());
            share.saturating_mul(4).max(cap.max.saturating_add(1))
        };
        most.min(MOST)
    }

    /// Commits a login under a cap.
    pub(super) async fn commit_capped(
        self: &Arc<Self>,
        commit: &Commit,
        wanted: Wanted,
        until: Instant,
    ) -> Result<Outcome> {
        let lock = self.keys.turn(&wanted.hash);
        let holder = self.lock(&lock, until).await?;
        let result = self.commit_counted(commit, wanted, until).await;
        // Left alone, the lease ends by itself.
        let mut plan = Plan::new(self, STORE, commit.access.at)?.shrinks();
        plan.expect_value(lock.clone(), &holder);
        plan.delete(lock);
        let _ = plan.carry_out(self.link.until()).await;
        result
    }

    /// Waits for the lock, and answers what it holds while it is ours.
    async fn lock(&self, lock: &str, until: Instant) -> Result<Vec<u8>> {
        let mut holder = vec![0; 16];
        fill_random(&mut holder)?;
        let lease = u64::try_from(self.config.wait.as_millis() * 2).unwrap_or(u64::MAX).max(1000);
        let mut command = ::redis::cmd("SET");
        command.arg(lock).arg(&holder).arg("NX").arg("PX").arg(lease);
        loop {
            // Sent twice, the first may have taken it; then its lease keeps the others waiting.
            match self.link.ask(&command, Kind::Read, until).await?.value {
                Value::Nil if Instant::now() + LOOK_AGAIN < until => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Value::Nil => {
                    let why = "other logins of the same user kept this one waiting for too long";
                    return Err(Error::unavailable(why));
                }
                _ => return Ok(holder),
            }
        }
    }

    async fn commit_counted(
        self: &Arc<Self>,
        commit: &Commit,
        wanted: Wanted,
        until: Instant,
    ) -> Result<Outcome> {
        let home = self.keys.partition_of(&commit.id);
        let own = ids_of(commit, |id| self.keys.partition_of(id) == home);
        let mut conflicts = 0;
        loop {
            let at = commit.access.at;
            let ids = own.clone();
            let views = self
                .everywhere(move |shared, partition| {
                    let ids = if partition == home { ids.clone() } else { Vec::new() };
                    async move { View::read(&shared, partition, &ids, Some(wanted), until).await }
                })
                .await;
            let (mut here, mut elsewhere) = (None, Vec::new());
            for (partition, view) in self.keys.partitions().zip(views) {
                let view = view?;
                if partition == home {
                    here = Some(view);
                } else {
                    elsewhere.extend(live(&view, at));
                }
            }
            let Some(mut view) = here else {
                return Err(Error::unavailable("a partition was not read"));
            };
            let plan = view.plan(self, home, at)?;
            for (id, record) in elsewhere {
                // Of a partition with generations of its own, by which it lives.
                let mut header = record.header();
                header.generation = u64::MAX;
                view.count(id, Record::new(&header, record.data())?);
            }
            let Applied { outcome, write, more } = apply(commit, &mut view)?;
            let Some(write) = write else { return Ok(outcome) };
            self.learn_timing(&outcome, &commit.access, until).await?;
            let is_new = |id: &SessionId| own.contains(id);
            let mut plan = plan;
            let surplus: Vec<_> =
                more.iter().map(|write| write.id).filter(|id| !is_new(id)).collect();
            let here = std::iter::once(&write).chain(more.iter().filter(|one| is_new(&one.id)));
            for write in here.clone() {
                plan.put(write);
                self.recent.forget(&write.id);
            }
            if let Tried::Done = plan.carry_out(until).await? {
                self.tell(|notes| notes.wrote(here));
                self.end_surplus(commit, surplus, until).await?;
                return Ok(outcome);
            }
            conflicts += 1;
            pause_after(conflicts, until).await?;
        }
    }

    async fn end_surplus(
        self: &Arc<Self>,
        commit: &Commit,
        ids: Vec<SessionId>,
        until: Instant,
    ) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let target = Target::Sessions { ids, filter: Filter::new() };
        let end = End { target, except: None, by: EndedBy::Cap, at: commit.access.at };
        let ended = self.end(end, until).await;
        ended.map(drop).map_err(|error| {
            Error::unknown_outcome("signed in, but older sessions over the cap were not ended")
                .with_source(error)
        })
    }
}

/// The user's sessions in one partition that live by its own endings.
fn live(view: &View, at: crate::expiry::Timestamp) -> Vec<(SessionId, Record)> {
    let lives = |record: &Record| record.absence(at, None, &view.endings_of(record)).is_none();
    let rows = view.sessions().iter().filter_map(|id| {
        let row = view.row(id).ok()??;
        Some((*id, row.record.clone()))
    });
    rows.filter(|(_, record)| lives(record)).collect()
}
