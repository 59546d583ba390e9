//! Ending sessions: some, those of a user, everyone's.
//!
//! An ending of many is a new generation of each partition, and does not depend on how many
//! sessions there are. In a cluster it is carried out in all partitions side by side: each
//! partition is atomic, the whole is not. Once answered, it holds everywhere; if it fails half-way,
//! some partitions have it, the caller is told that the outcome is unknown, and calling again
//! completes it.

use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::commit::pause_after;
use super::layout::{self, Partition};
use super::plan::Tried;
use super::view::{View, Wanted};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::record::{Ending, Record};
use crate::store::stored::{EVERYONE, StoredEnding};
use crate::store::{End, EndReport, Filter, Target, Timing, Write, end_record};

/// Most sessions that are ended in one step.
const CHUNK: usize = 128;

impl Shared {
    pub(super) async fn end(self: &Arc<Self>, end: End, until: Instant) -> Result<EndReport> {
        match &end.target {
            Target::Sessions { ids, .. } => {
                let ids = ids.iter().filter(|id| Some(**id) != end.except).copied().collect();
                self.end_sessions(end, ids, until).await
            }
            Target::User(_) | Target::Everyone => {
                let user = match &end.target {
                    Target::User(user) => Some(user.clone()),
                    _ => None,
                };
                // Each partition has a generation of its own: the event tells none.
                let ending = Ending { generation: 0, at: end.at, by: end.by };
                let end = Arc::new(end);
                let results = self
                    .everywhere(move |shared, partition| {
                        let end = end.clone();
                        async move { shared.end_generation(&end, partition, until).await }
                    })
                    .await;
                halfway(results)?;
                self.tell(|notes| notes.ended_all(user.as_deref(), &ending));
                Ok(EndReport::default())
            }
        }
    }

    async fn end_sessions(
        self: &Arc<Self>,
        end: End,
        mut ids: Vec<SessionId>,
        until: Instant,
    ) -> Result<EndReport> {
        let timing = self.timing(until).await?;
        ids.sort_unstable();
        ids.dedup();
        let mut report = EndReport::default();
        let here = |id: &SessionId| self.keys.partition_of(id);
        for of_one in ids.chunk_by(|one, other| here(one) == here(other)) {
            for ids in of_one.chunks(CHUNK) {
                let part = self.end_some(&end, here(&ids[0]), ids, timing, until).await;
                // What was ended before stays so, and is over when it is asked for again.
                let part = part?;
                report.ended += part.ended;
                report.already_over += part.already_over;
            }
        }
        Ok(report)
    }

    async fn end_some(
        &self,
        end: &End,
        partition: Partition,
        ids: &[SessionId],
        timing: Timing,
        until: Instant,
    ) -> Result<EndReport> {
        let everything = Filter::new().any_state();
        let filter = match &end.target {
            Target::Sessions { filter, .. } => filter,
            _ => &everything,
        };
        let mut doubts = Vec::new();
        let mut conflicts = 0;
        loop {
            let view = View::read(self, partition, ids, None, until).await?;
            let mut plan = view.plan(self, partition, end.at)?.shrinks();
            let mut report = EndReport::default();
            let mut writes = Vec::new();
            for id in ids {
                let row = match view.row(id) {
                    Ok(Some(row)) => row,
                    Ok(None) => continue,
                    Err(error) if error.is_corrupt() => continue,
                    Err(error) => return Err(error),
                };
                let (record, endings) = (&row.record, view.endings_of(&row.record));
                let keep = self.config.keep_ended;
                match end_record(record, &endings, end.at, end.by, keep)? {
                    None if doubts.contains(&row.stamp) => report.ended += 1,
                    None => report.already_over += 1,
                    Some(after)
                        if filter.matches(id, record, &endings, end.at, timing.touch_interval) =>
                    {
                        let write = Write { id: *id, before: Some(record.clone()), after };
                        plan.put(&write);
                        writes.push(write);
                        report.ended += 1;
                    }
                    Some(_) => {}
                }
                self.recent.forget(id);
            }
            if plan.is_empty() {
                return Ok(report);
            }
            let stamp = plan.stamp;
            match plan.carry_out(until).await? {
                Tried::Done => {
                    self.tell(|notes| notes.wrote(writes.iter()));
                    return Ok(report);
                }
                Tried::Changed { in_doubt } => doubts.extend(in_doubt.then_some(stamp)),
            }
            conflicts += 1;
            pause_after(conflicts, until).await?;
        }
    }

    /// Begins a new generation of one partition.
    async fn end_generation(&self, end: &End, partition: Partition, until: Instant) -> Result<()> {
        let hash = match &end.target {
            Target::User(user) => layout::hash_of(Some(user)),
            _ => EVERYONE,
        };
        let spared: Vec<_> =
            end.except.into_iter().filter(|id| self.keys.partition_of(id) == partition).collect();
        let wanted = Some(Wanted { hash, sessions: 0 });
        let mut conflicts = 0;
        loop {
            let view = View::read(self, partition, &spared, wanted, until).await?;
            let mut plan = view.plan(self, partition, end.at)?.shrinks();
            let mut state = view.state;
            state.generation += 1;
            let ending = Ending { generation: state.generation, at: end.at, by: end.by };
            let before = view.ending(&hash);
            plan.expect_ending(&hash, &before.map(|ending| ending.seal(&hash)).unwrap_or_default());
            let was_pending = before.is_some_and(|stored| stored.pending_after.is_some());
            state.pending_endings += u32::from(!was_pending);
            match &end.target {
                Target::User(_) => state.user_endings += u32::from(before.is_none()),
                _ => state.everyone = Some(ending),
            }
            plan.put_ending(&hash, Some(StoredEnding::new(ending).seal(&hash)));
            plan.put_state(&state);
            for id in &spared {
                let Ok(Some(row)) = view.row(id) else { continue };
                let endings = view.endings_of(&row.record);
                if row.record.absence(end.at, None, &endings).is_none() {
                    let mut header = row.record.header();
                    header.generation = state.generation;
                    let after = Record::new(&header, row.record.data())?;
                    plan.put(&Write { id: *id, before: Some(row.record.clone()), after });
                }
                self.recent.forget(id);
            }
            // Sent twice, it may be carried out twice: ended again is ended.
            if let Tried::Done = plan.carry_out(until).await? {
                return Ok(());
            }
            conflicts += 1;
            pause_after(conflicts, until).await?;
        }
    }

    /// Does the same in all partitions, side by side; the results are in their order.
    pub(super) async fn everywhere<T, F>(
        self: &Arc<Self>,
        job: impl Fn(Arc<Self>, Partition) -> F,
    ) -> Vec<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.keys.is_one() {
            return vec![job(self.clone(), Partition(0)).await];
        }
        let jobs: Vec<_> = self
            .keys
            .partitions()
            .map(|partition| self.runtime.spawn(job(self.clone(), partition)))
            .collect();
        let mut results = Vec::with_capacity(jobs.len());
        for job in jobs {
            results.push(job.await.unwrap_or_else(|_| Err(super::link::closed())));
        }
        results
    }
}

/// Whether all succeeded. If only some did, nobody can say that nothing was changed.
fn halfway(results: Vec<Result<()>>) -> Result<()> {
    let some =
        results.iter().any(|result| result.as_ref().err().is_none_or(Error::is_unknown_outcome));
    let Some(error) = results.into_iter().find_map(Result::err) else { return Ok(()) };
    if some {
        let why =
            "sessions were ended in some partitions of the cluster, not in all: end them again";
        return Err(Error::unknown_outcome(why).with_source(error));
    }
    Err(error)
}
