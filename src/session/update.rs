//! `update`: one key, committed at once, exact however many write it.
//!
//! Across processes a compare-and-set decides, which answers the current record to whoever lost,
//! so that each round of a race has a winner. Within this process updates of one session take
//! turns, or a crowd of them would make each other run again and again. The turns are
//! process-wide, not a layer's: two layers, or a layer and a background job, may well meet in one
//! session. Sessions share a turn by chance (1 in 1024); that costs a wait, never correctness.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::Inner;
use super::commit::Head;
use super::shared::broken_contract;
use super::state::{Lost, too_late};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::record::Record;
use crate::store::{Draft, Loaded, Op, Outcome};
use crate::value;

/// How long an update tries to be the one that commits.
const DEADLINE: Duration = Duration::from_secs(5);

static TURNS: [Mutex<()>; 1024] = [const { Mutex::const_new(()) }; 1024];

fn turn_of(id: &SessionId) -> &'static Mutex<()> {
    let [.., high, low] = *id.as_bytes();
    &TURNS[usize::from(u16::from_be_bytes([high, low])) % TURNS.len()]
}

fn conflict() -> Error {
    Error::new(Kind::Conflict, "the key kept being changed by others")
}

/// What an update starts from.
struct Current {
    id: SessionId,
    record: Record,
    /// What this request sees, its own uncommitted change included.
    seen: Option<Box<[u8]>>,
}

impl Inner {
    pub(super) async fn update<T, F>(&self, key: &str, mut f: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> T,
    {
        let deadline = Instant::now() + DEADLINE;
        self.loaded().await?;
        let _turn = self.turn.lock().await;
        self.commit_what_goes_first().await?;
        let Some(id) = self.updatable()? else {
            return self.create_by_update(key, &mut f).await;
        };
        let _turn_of_session = self.take_turn(&id, deadline).await?;
        loop {
            let current = self.current(key)?;
            let stored = current.record.data().get(key);
            let (new, encoded) = self.compute(key, current.seen.as_deref(), &mut f)?;
            let op = Op::CompareAndSet {
                key: key.into(),
                expected: stored.map(Into::into),
                value: Some(encoded.into()),
            };
            if self.compare_and_set(current.id, key, op).await? {
                return Ok(new);
            }
            if Instant::now() >= deadline {
                return Err(conflict());
            }
        }
    }

    /// Whoever had to wait for others has an old record, and would lose the first round.
    async fn take_turn(
        &self,
        id: &SessionId,
        deadline: Instant,
    ) -> Result<MutexGuard<'static, ()>> {
        let turn = turn_of(id);
        if let Ok(guard) = turn.try_lock() {
            return Ok(guard);
        }
        let guard = tokio::time::timeout_at(deadline, turn.lock()).await.map_err(|_| conflict())?;
        if let Loaded::Live(record) = self.shared.load(id).await?
            && let Some(live) = &mut self.state.lock().live
        {
            live.record = record;
        }
        Ok(guard)
    }

    /// A renewal or a `clear` changes what the key's value is, and cannot wait until after it.
    async fn commit_what_goes_first(&self) -> Result<()> {
        let goes_first = {
            let state = self.state.lock();
            state.staged.is_some() || state.draft.changes.is_clear()
        };
        if goes_first { self.commit_pending(Head::AsKnown).await } else { Ok(()) }
    }

    /// The session to update; `None` if one has to be created.
    fn updatable(&self) -> Result<Option<SessionId>> {
        let state = self.state.lock();
        match (&state.live, state.lost) {
            (Some(live), _) => Ok(Some(live.id)),
            (None, Some(lost)) => Err(lost.error()),
            (None, None) if state.head_sent => Err(too_late()),
            (None, None) => Ok(None),
        }
    }

    fn current(&self, key: &str) -> Result<Current> {
        let state = self.state.lock();
        let live = state.live.as_ref().ok_or_else(|| Lost::Gone.error())?;
        let seen = state.value(key).map(Into::into);
        Ok(Current { id: live.id, record: live.record.clone(), seen })
    }

    fn compute<T, F>(&self, key: &str, start: Option<&[u8]>, f: &mut F) -> Result<(T, Vec<u8>)>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> T,
    {
        let start = start.map(|bytes| value::decode(key, bytes)).transpose()?;
        let new = f(start);
        let encoded = self.encode(key, &new)?;
        Ok((new, encoded))
    }

    async fn compare_and_set(&self, id: SessionId, key: &str, op: Op) -> Result<bool> {
        let (record, won) = match self.shared.commit(id, op).await? {
            Outcome::Committed(record) => (record, true),
            Outcome::Changed(record) => (record, false),
            Outcome::Absent(absence) => {
                return Err(self.state.lock().lose(Lost::at_commit(absence)));
            }
            Outcome::Exists => return Err(broken_contract()),
        };
        let mut state = self.state.lock();
        if let Some(live) = state.live.as_mut().filter(|live| live.id == id) {
            live.record = record;
        }
        if won {
            state.draft.changes.forget(key);
            state.draft_version += 1;
        }
        Ok(won)
    }

    async fn create_by_update<T, F>(&self, key: &str, f: &mut F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> T,
    {
        let pending = self.state.lock().value(key).map(Box::<[u8]>::from);
        let (new, encoded) = self.compute(key, pending.as_deref(), f)?;
        let mut draft = Draft::default();
        draft.changes.set(key, encoded)?;
        self.create_with(draft).await?;
        let mut state = self.state.lock();
        state.draft.changes.forget(key);
        state.draft_version += 1;
        Ok(new)
    }
}
