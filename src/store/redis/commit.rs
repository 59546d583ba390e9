//! Loading and committing.
//!
//! A commit is decided here, by [`apply`], and written by a script that first compares the rows
//! and endings it was decided on; if anything has changed, it is decided anew. What this process
//! saw last of the session is taken for a guess, so that most commits are one round trip. Commits
//! of one session within a process take turns, so that they do not lose against each other.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::Shared;
use super::layout::{self, Row, Stamp, State};
use super::link::Kind;
use super::plan::Tried;
use super::replace::Replacement;
use super::view::{View, Wanted, array, bytes};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::id::SessionId;
use crate::record::{Absence, Endings, Mark, Record};
use crate::store::{Access, Applied, Commit, Loaded, Login, Op, Outcome, Write, apply};

/// Sessions whose commits take turns, by hash.
const TURNS: usize = 1024;

/// Turns of commits and logins.
pub(super) struct Turns {
    places: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Turns {
    pub(super) fn new() -> Self {
        let places = (0..TURNS).map(|_| Mutex::new(())).collect();
        Self { places, hasher: RandomState::new() }
    }

    pub(super) async fn take(&self, of: &[u8], until: Instant) -> Result<MutexGuard<'_, ()>> {
        let hash = self.hasher.hash_one(of);
        // Reduced below the number of places before it is cast.
        let place = usize::try_from(hash % TURNS as u64).unwrap_or(0);
        let place = &self.places[place];
        if let Ok(turn) = place.try_lock() {
            return Ok(turn);
        }
        tokio::time::timeout_at(until, place.lock())
            .await
            .map_err(|_| Error::unavailable("the store did not get to it in time"))
    }
}

impl Shared {
    pub(super) async fn load(
        &self,
        id: &SessionId,
        access: &Access,
        until: Instant,
    ) -> Result<Loaded> {
        let (found, endings) = match self.row(id, until).await {
            Ok(found) => found,
            Err(error) if error.is_corrupt() => return Ok(Loaded::Absent(Absence::Corrupt)),
            Err(error) => return Err(error),
        };
        let Some(row) = found else {
            self.recent.forget(id);
            return Ok(Loaded::Absent(Absence::NotFound));
        };
        match row.record.absence(access.at, access.timeouts.as_ref(), &endings) {
            None => {
                self.recent.put(*id, row.clone());
                Ok(Loaded::Live(row.record))
            }
            Some(absence) => {
                self.recent.forget(id);
                Ok(Loaded::Absent(absence))
            }
        }
    }

    /// The row of `id`, and the endings that concern it at the same moment.
    pub(super) async fn row(
        &self,
        id: &SessionId,
        until: Instant,
    ) -> Result<(Option<Row>, Endings)> {
        let partition = self.keys.partition_of(id);
        let mut command = ::redis::cmd("MGET");
        command.arg(self.keys.row(id)).arg(self.keys.state(partition));
        let reply = self.link.ask(&command, Kind::Read, until).await?;
        let mut parts = array(reply.value)?.into_iter();
        let row = bytes(parts.next())?.map(|bytes| Row::open(id, &bytes)).transpose()?;
        let sealed_state = bytes(parts.next())?.unwrap_or_default();
        let state = State::open(&sealed_state)?;
        self.remember_state(partition, &sealed_state);
        if state.user_endings == 0 || row.as_ref().is_none_or(|row| row.record.user().is_none()) {
            return Ok((row, Endings { everyone: state.everyone, user: None }));
        }
        let view = View::read(self, partition, &[*id], None, until).await?;
        let Some(row) = view.row(id)? else { return Ok((None, Endings::default())) };
        Ok((Some(row.clone()), view.endings_of(&row.record)))
    }

    pub(super) async fn commit(
        self: &Arc<Self>,
        commit: &Commit,
        until: Instant,
    ) -> Result<Outcome> {
        if let Op::Renew { new_id, .. } = &commit.op
            && self.keys.partition_of(new_id) != self.keys.partition_of(&commit.id)
            && !matches!(self.load(&commit.id, &commit.access, until).await?, Loaded::Absent(_))
        {
            let why = "a session is renewed to an ID with the same shard bytes";
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        let _turn = self.turns.take(commit.id.as_bytes(), until).await?;
        match login_of(&commit.op) {
            Some(Login { user, cap: Some(cap) }) => {
                let sessions = self.sessions_looked_at(cap);
                let wanted = Wanted { hash: layout::hash_of(Some(user)), sessions };
                let _turn = self.login_turns.take(&wanted.hash, until).await?;
                if self.keys.is_one() {
                    self.decide(commit, Some(wanted), until).await
                } else {
                    self.commit_capped(commit, wanted, until).await
                }
            }
            _ => self.decide(commit, None, until).await,
        }
    }

    /// Decides until nothing has changed between the reading and the writing.
    async fn decide(
        &self,
        commit: &Commit,
        wanted: Option<Wanted>,
        until: Instant,
    ) -> Result<Outcome> {
        let partition = self.keys.partition_of(&commit.id);
        let ids = ids_of(commit, |id| self.keys.partition_of(id) == partition);
        let mut guess = if wanted.is_none() { self.guess(commit, &ids) } else { None };
        let mut doubts: Vec<Doubt> = Vec::new();
        let mut conflicts = 0_u32;
        loop {
            let is_guess = guess.is_some();
            let mut view = match guess.take() {
                Some(view) => view,
                None => View::read(self, partition, &ids, wanted, until).await?,
            };
            if let Some(doubt) = settle(&doubts, &view, &commit.id)? {
                self.tell(|notes| notes.wrote(doubt.writes.iter()));
                return Ok(doubt.outcome.clone());
            }
            // Only what is written is compared: any other conclusion needs the current state.
            let applied = match apply(commit, &mut view) {
                Ok(Applied { write: None, .. }) | Err(_) if is_guess => continue,
                applied => applied?,
            };
            let Applied { outcome, write, more } = applied;
            let Some(write) = write else { return Ok(outcome) };
            self.learn_timing(&outcome, &commit.access, until).await?;
            let at = commit.access.at;
            let (stamp, tried) = match Replacement::of(self, &view, &write, at)? {
                Some(replacement) => (replacement.stamp, replacement.carry_out(until).await),
                None => {
                    let mut plan = view.plan(self, partition, at)?;
                    if matches!(commit.op, Op::End { .. }) {
                        plan = plan.shrinks();
                    }
                    for write in std::iter::once(&write).chain(&more) {
                        plan.put(write);
                    }
                    (plan.stamp, plan.carry_out(until).await)
                }
            };
            self.remember(stamp, matches!(tried, Ok(Tried::Done)), &write, &more);
            match tried? {
                Tried::Done => {
                    self.tell(|notes| notes.wrote(std::iter::once(&write).chain(&more)));
                    return Ok(outcome);
                }
                Tried::Changed { in_doubt: true } => {
                    let version = write.before.as_ref().map(Record::version);
                    let writes = std::iter::once(write).chain(more).collect();
                    doubts.push(Doubt { stamp, version, outcome, writes });
                }
                Tried::Changed { in_doubt: false } => {}
            }
            conflicts += 1;
            pause_after(conflicts, until).await?;
        }
    }

    /// What was just written is the next guess.
    fn remember(&self, stamp: Stamp, done: bool, write: &Write, more: &[Write]) {
        for Write { id, after, .. } in std::iter::once(write).chain(more) {
            if done && after.mark() == Mark::None {
                self.recent.put(*id, Row { stamp, record: after.clone() });
            } else {
                self.recent.forget(id);
            }
        }
    }

    /// What is there, as far as this process knows.
    fn guess(&self, commit: &Commit, ids: &[SessionId]) -> Option<View> {
        let state = self.recent.state(self.keys.partition_of(&commit.id))?;
        let row = match commit.op {
            Op::Create { .. } => None,
            _ => Some(self.recent.get(&commit.id)?),
        };
        let mut rows = vec![(commit.id, row)];
        rows.extend(ids.iter().filter(|id| **id != commit.id).map(|id| (*id, None)));
        let view = View::guess(self, state, rows).ok()?;
        view.is_enough_for(&commit.id).then_some(view)
    }
}

/// An attempt that was sent twice, the second time in vain: the first may have been carried out.
struct Doubt {
    stamp: Stamp,
    /// Of the record it was to replace.
    version: Option<u64>,
    outcome: Outcome,
    writes: Vec<Write>,
}

/// The attempt that was carried out after all. An attempt left its stamp on the row,
/// unless somebody has written over it since: then nobody can say.
fn settle<'a>(doubts: &'a [Doubt], view: &View, id: &SessionId) -> Result<Option<&'a Doubt>> {
    let Some(last) = doubts.last() else { return Ok(None) };
    let row = view.row(id)?;
    let done = row.and_then(|row| doubts.iter().find(|doubt| doubt.stamp == row.stamp));
    if done.is_some() {
        return Ok(done);
    }
    if row.map(|row| row.record.version()) != last.version {
        return Err(Error::unknown_outcome(
            "the connection broke during a commit, and the session has changed since",
        ));
    }
    Ok(None)
}

/// The rows that a commit looks at.
pub(super) fn ids_of(commit: &Commit, is_here: impl Fn(&SessionId) -> bool) -> Vec<SessionId> {
    let mut ids = vec![commit.id];
    if let Op::Renew { new_id, .. } = &commit.op
        && *new_id != commit.id
        && is_here(new_id)
    {
        ids.push(*new_id);
    }
    ids
}

fn login_of(op: &Op) -> Option<&Login> {
    match op {
        Op::Create { login, .. } | Op::Renew { login, .. } => login.as_ref(),
        _ => None,
    }
}

/// Leaves somebody else the way after a few conflicts.
pub(super) async fn pause_after(conflicts: u32, until: Instant) -> Result<()> {
    if Instant::now() >= until {
        let why = "other writers of the same session kept this one waiting for too long";
        return Err(Error::unavailable(why));
    }
    if conflicts > 3 {
        let mut byte = [0];
        crate::random::fill_random(&mut byte)?;
        let longest = u64::from(conflicts.min(16)) * 100;
        let micros = longest * u64::from(byte[0]) / 255;
        tokio::time::sleep(std::time::Duration::from_micros(micros)).await;
    }
    Ok(())
}
