//! Activity, recorded in batches off the callers' path.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use super::layout::Partition;
use super::plan::Tried;
use super::view::View;
use crate::error::Result;
use crate::id::SessionId;
use crate::store::Access;

/// How long a touch may wait for company.
pub(super) const DELAY: Duration = Duration::from_secs(1);
/// More sessions than this are not touched at once; the next request of each tries again.
const MAX_TOUCHES: usize = 1 << 20;
/// Most sessions touched in one step.
const CHUNK: usize = 64;

/// Touches on their way.
#[derive(Default)]
pub(super) struct Touches(Mutex<HashMap<SessionId, Access>>);

impl Touches {
    pub(super) fn add(&self, id: &SessionId, access: &Access) {
        let mut touches = self.0.lock();
        if touches.len() >= MAX_TOUCHES {
            return;
        }
        let known = touches.entry(*id).or_insert(*access);
        known.at = known.at.max(access.at);
    }

    fn take(&self) -> HashMap<SessionId, Access> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Shared {
    /// Records what activity there was. What cannot be recorded is lost.
    pub(super) async fn flush_touches(&self) -> Result<()> {
        let mut touches: Vec<_> = self.touches.take().into_iter().collect();
        touches.sort_unstable_by_key(|(id, _)| *id);
        let here = |touch: &(SessionId, Access)| self.keys.partition_of(&touch.0);
        for of_one in touches.chunk_by(|one, other| here(one) == here(other)) {
            let partition = here(&of_one[0]);
            let mut left: VecDeque<_> = of_one.iter().copied().collect();
            let mut chunk = CHUNK;
            while !left.is_empty() {
                let some: Vec<_> = left.iter().take(chunk).copied().collect();
                if self.touch_some(partition, &some).await? {
                    left.drain(..some.len());
                    chunk = (chunk * 2).min(CHUNK);
                } else {
                    // One of them was written in between: smaller steps have better luck.
                    chunk = (chunk / 2).max(1);
                }
            }
        }
        Ok(())
    }

    /// False if one of them has changed in between, and nothing was written.
    async fn touch_some(
        &self,
        partition: Partition,
        touches: &[(SessionId, Access)],
    ) -> Result<bool> {
        let until = self.link.until();
        let ids: Vec<_> = touches.iter().map(|(id, _)| *id).collect();
        let view = View::read(self, partition, &ids, None, until).await?;
        let Some((_, first)) = touches.first() else { return Ok(true) };
        let mut plan = super::plan::Plan::new(self, partition, first.at)?;
        plan.expect_state(&view.sealed_state);
        for (id, access) in touches {
            let Ok(Some(row)) = view.row(id) else { continue };
            let endings = view.endings_of(&row.record);
            let live = row.record.absence(access.at, access.timeouts.as_ref(), &endings).is_none();
            if live && access.at > row.record.last_seen_at() {
                plan.expect_row(id, Some(row.stamp));
                plan.touch(id, &row.record, &row.record.touched(access.at));
                self.recent.forget(id);
            }
        }
        Ok(matches!(plan.carry_out_if_any(until).await?, Tried::Done))
    }
}
