//! `update`: one key, committed at once, exact however many write it.
//!
//! A compare-and-set decides, which answers the current record to whoever lost, so that each round
//! of a race has a winner. Within this process updates of one session form a line: each starts
//! from the value that the one before it has asked to be written, and asks for its own without
//! waiting for the answer. The store carries out what is queued for one session in its order, so
//! that a whole line is one commit to disk; if somebody else got in between, the line breaks and
//! starts again from the record that the answer brings. The comparison alone makes it correct; the
//! line only makes a crowd fast.
//!
//! The lines are process-wide, not a layer's: two layers, or a layer and a background job, may
//! well meet in one session. Sessions share a line by chance (1 in 1024): if one breaks it, the
//! other starts again, too.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::Inner;
use super::commit::Head;
use super::shared::broken_contract;
use super::state::{Lost, State, too_late};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::record::Record;
use crate::store::{Answer, Draft, Loaded, Op, Outcome};
use crate::value;

/// How long an update tries to be the one that commits.
const DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of keys and values that one line keeps for those behind. For a longer value they wait
/// until it is answered.
const MAX_KEPT_BYTES: usize = 32 * 1024;

static LINES: [Mutex<Line>; 1024] = [const { Mutex::const_new(Line::EMPTY) }; 1024];

/// Updates of one session that were asked for and are not answered yet.
struct Line {
    /// Counts breaks, so that of all those a break throws back the first one mends it.
    breaks: u64,
    /// The last of each key, in the order in which they were asked for.
    tails: Vec<Tail>,
}

/// What the last update of a key in line has asked for.
struct Tail {
    id: SessionId,
    key: Box<str>,
    value: Box<[u8]>,
    /// The version that the record will have then, unless others write to it as well.
    version: u64,
}

impl Line {
    const EMPTY: Self = Self { breaks: 0, tails: Vec::new() };

    fn of(id: &SessionId) -> &'static Mutex<Self> {
        let [.., high, low] = *id.as_bytes();
        &LINES[usize::from(u16::from_be_bytes([high, low])) % LINES.len()]
    }

    /// What `key` will be when all in line are done, if that is newer than `record`.
    fn tail_of(&self, id: &SessionId, key: &str, record: &Record) -> Option<&Tail> {
        self.tails
            .iter()
            .find(|tail| tail.is_of(id, key))
            .filter(|tail| tail.version >= record.version())
    }

    /// The version that the session will have when all in line are done and one more.
    fn next_version(&self, id: &SessionId, record: &Record) -> u64 {
        let in_line = self.tails.iter().filter(|tail| tail.id == *id).map(|tail| tail.version);
        in_line.fold(record.version(), u64::max).saturating_add(1)
    }

    fn append(&mut self, tail: Tail) {
        self.tails.retain(|other| !other.is_of(&tail.id, &tail.key));
        self.tails.push(tail);
        let mut kept: usize = self.tails.iter().map(Tail::size).sum();
        while kept > MAX_KEPT_BYTES {
            kept -= self.tails.remove(0).size();
        }
    }

    /// It was done as asked for.
    fn done(&mut self, id: &SessionId, key: &str, version: u64) {
        self.tails.retain(|tail| tail.version != version || !tail.is_of(id, key));
    }

    fn break_off(&mut self) {
        self.breaks += 1;
        self.tails.clear();
    }
}

impl Tail {
    fn size(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.value.len()
    }

    fn is_of(&self, id: &SessionId, key: &str) -> bool {
        self.id == *id && *self.key == *key
    }
}

/// An update that was asked for.
struct Asked<T> {
    new: T,
    answer: Answer<Outcome>,
    pending: Pending,
    was_in_doubt: bool,
    breaks: u64,
    version: u64,
    /// Of a value that is not kept: nobody joins before it is answered.
    held: Option<MutexGuard<'static, Line>>,
}

fn conflict() -> Error {
    Error::new(Kind::Conflict, "the key kept being changed by others")
}

/// The handle's own, uncommitted value of the key: `Some(None)` if it removed the key.
type Pending = Option<Option<Box<[u8]>>>;

/// What this handle knows of the key.
struct Current {
    record: Record,
    pending: Pending,
}

impl State {
    fn pending(&self, key: &str) -> Pending {
        self.draft.changes.get(key).map(|value| value.map(Into::into))
    }

    /// The key was committed, starting from `pending`. What a clone of the handle has inserted or
    /// removed since then comes after it.
    fn settle_update(&mut self, key: &str, pending: &Pending) {
        let now = self.pending(key);
        if now == *pending {
            self.draft.changes.forget(key);
        } else if now.is_none() {
            // Removed meanwhile, when it was not known to be stored.
            self.draft.changes.remove(key);
        }
        self.draft_version += 1;
    }
}

impl Inner {
    pub(super) async fn update<T, F>(&self, key: &str, mut f: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> T,
    {
        let deadline = Instant::now() + DEADLINE;
        drop(self.loaded().await?);
        let _turn = self.turn.lock().await;
        self.commit_what_goes_first().await?;
        let Some(id) = self.updatable()? else {
            return Box::pin(self.create_by_update(key, &mut f)).await;
        };
        loop {
            let Asked { new, answer, pending, was_in_doubt, breaks, version, held } =
                self.ask(&id, key, &mut f, deadline).await?;
            let won = self.compare_and_set(id, key, answer, &pending, was_in_doubt).await;
            {
                let mut line = match held {
                    Some(line) => line,
                    None => Line::of(&id).lock().await,
                };
                match won {
                    Ok(true) => line.done(&id, key, version),
                    _ if line.breaks == breaks => line.break_off(),
                    _ => {}
                }
            }
            if won? {
                return Ok(new);
            }
            if Instant::now() >= deadline {
                return Err(conflict());
            }
        }
    }

    /// Joins the line: computes the new value from the one before it, and asks the store for it.
    async fn ask<T, F>(
        &self,
        id: &SessionId,
        key: &str,
        f: &mut F,
        deadline: Instant,
    ) -> Result<Asked<T>>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> T,
    {
        let mut line = self.join(id, key, deadline).await?;
        let Current { record, pending } = self.current(key)?;
        let tail = line.tail_of(id, key, &record);
        let expected = match tail {
            Some(tail) => Some(&*tail.value),
            None => record.data().get(key),
        };
        let start = match &pending {
            Some(pending) => pending.as_deref(),
            None => expected,
        };
        let (new, encoded) = self.compute(key, start, f)?;
        let version = line.next_version(id, &record);
        let op = Op::CompareAndSet {
            key: key.into(),
            expected: expected.map(Into::into),
            value: Some(encoded.as_slice().into()),
        };
        let was_in_doubt = self.state().hand_over();
        let answer = self.shared.ask(*id, op);
        let breaks = line.breaks;
        let tail = Tail { id: *id, key: key.into(), value: encoded.into(), version };
        let held = if tail.size() <= MAX_KEPT_BYTES {
            line.append(tail);
            None
        } else {
            Some(line)
        };
        Ok(Asked { new, answer, pending, was_in_doubt, breaks, version, held })
    }

    async fn join(
        &self,
        id: &SessionId,
        key: &str,
        deadline: Instant,
    ) -> Result<MutexGuard<'static, Line>> {
        match Line::of(id).try_lock() {
            Ok(line) => Ok(line),
            Err(_) => Box::pin(self.wait_in_line(id, key, deadline)).await,
        }
    }

    /// Whoever had to wait for others has an old record, and would lose the first round.
    async fn wait_in_line(
        &self,
        id: &SessionId,
        key: &str,
        deadline: Instant,
    ) -> Result<MutexGuard<'static, Line>> {
        let line = Line::of(id);
        let guard = tokio::time::timeout_at(deadline, line.lock()).await.map_err(|_| conflict())?;
        let in_line = guard.tail_of(id, key, &self.current(key)?.record).is_some();
        if !in_line
            && let Loaded::Live(record) = self.shared.load(id).await?
            && let Some(live) = &mut self.state().live
        {
            live.record = record;
        }
        Ok(guard)
    }

    /// A renewal or a `clear` changes what the key's value is, and cannot wait until after it.
    async fn commit_what_goes_first(&self) -> Result<()> {
        let goes_first = {
            let state = self.state();
            state.staged.is_some() || state.draft.changes.is_clear()
        };
        if goes_first { Box::pin(self.commit_pending(Head::AsKnown)).await } else { Ok(()) }
    }

    /// The session to update; `None` if one has to be created.
    fn updatable(&self) -> Result<Option<SessionId>> {
        let state = self.state();
        match (&state.live, state.lost) {
            (Some(live), _) => Ok(Some(live.id)),
            (None, Some(lost)) => Err(lost.error()),
            (None, None) if state.head_sent => Err(too_late()),
            (None, None) => Ok(None),
        }
    }

    fn current(&self, key: &str) -> Result<Current> {
        let state = self.state();
        let live = state.live.as_ref().ok_or_else(|| Lost::Gone.error())?;
        Ok(Current { record: live.record.clone(), pending: state.pending(key) })
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

    async fn compare_and_set(
        &self,
        id: SessionId,
        key: &str,
        answer: Answer<Outcome>,
        pending: &Pending,
        was_in_doubt: bool,
    ) -> Result<bool> {
        let answered = answer.await;
        let answered =
            answered.inspect_err(|error| self.state().not_committed(error, was_in_doubt))?;
        let (record, won) = match answered {
            Outcome::Committed(record) => (record, true),
            Outcome::Changed(record) => (record, false),
            Outcome::Absent(absence) => {
                return Err(self.state().lose(Lost::at_commit(absence)));
            }
            Outcome::Exists => return Err(broken_contract()),
        };
        let mut state = self.state();
        if let Some(live) = state.live.as_mut().filter(|live| live.id == id) {
            live.record = record;
            live.in_doubt = was_in_doubt && !won;
        }
        if won {
            state.settle_update(key, pending);
        }
        Ok(won)
    }

    async fn create_by_update<T, F>(&self, key: &str, f: &mut F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> T,
    {
        let pending = self.state().pending(key);
        let start = pending.as_ref().and_then(Option::as_deref);
        let (new, encoded) = self.compute(key, start, f)?;
        let mut draft = Draft::default();
        draft.changes.set(key, encoded)?;
        self.create_with(draft).await?;
        self.state().settle_update(key, &pending);
        Ok(new)
    }
}
