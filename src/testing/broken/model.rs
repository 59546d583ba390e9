//! A plain store under one lock, with a place for each fault.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::faults::{Fault, gap};
use crate::error::{Error, Result};
use crate::expiry::Clock;
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{Absence, Ending, Endings, Mark, Record};
use crate::store::{
    Access, Answer, Commit, End, EndReport, Filter, Freshness, Import, Imported, Inspected,
    KeyChange, Loaded, Op, Outcome, Page, Query, Records, Remove, Rows, SWEEP_DELAY, SessionStore,
    Stats, Summary, Sweep, Swept, Target, Timing, apply, end_record,
};
use crate::testing::contract::Setup;

/// One handle. Handles of one store share its state, and are closed one by one.
#[derive(Clone)]
pub(super) struct Model {
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    /// What this handle saw last.
    seen: Arc<Mutex<BTreeMap<SessionId, Record>>>,
}

pub(super) struct Shared {
    clock: Clock,
    pub(super) keep_ended: Duration,
    pub(super) fault: Fault,
    pub(super) state: Mutex<State>,
    keys: Mutex<KeyRing>,
    /// Ends the sweeping when the store is gone.
    _gone: Sender<Infallible>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) rows: BTreeMap<SessionId, Record>,
    pub(super) generation: u64,
    everyone: Option<Ending>,
    users: HashMap<Box<str>, Ending>,
    pub(super) timing: Timing,
}

impl Model {
    pub(super) fn new(setup: &Setup, fault: Fault) -> Result<Self> {
        let (sender, gone) = channel();
        let shared = Arc::new(Shared {
            clock: setup.clock.clone(),
            keep_ended: setup.keep_ended,
            fault,
            state: Mutex::default(),
            keys: Mutex::new(KeyRing::generate(setup.clock.now())?),
            _gone: sender,
        });
        let (store, interval) = (Arc::downgrade(&shared), setup.sweep_interval);
        std::thread::spawn(move || {
            while gone.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let Some(shared) = store.upgrade() else { return };
                let sweep = Sweep { at: shared.clock.now(), limit: 1000, purge: false };
                while shared.sweep(sweep).more {}
            }
        });
        Ok(Self { shared, closed: Arc::default(), seen: Arc::default() })
    }

    pub(super) fn another_handle(&self) -> Self {
        Self { shared: self.shared.clone(), closed: Arc::default(), seen: Arc::default() }
    }

    fn answer<T>(&self, run: impl FnOnce(&Shared) -> Result<T>) -> Answer<T> {
        if self.closed.load(Ordering::SeqCst) {
            return Answer::ready(Err(Error::unavailable("the store was closed")));
        }
        Answer::ready(run(&self.shared))
    }
}

impl State {
    pub(super) fn endings_of(&self, user: Option<&str>) -> Endings {
        let user = user.and_then(|user| self.users.get(user).copied());
        Endings { everyone: self.everyone, user }
    }

    pub(super) fn inspect(&self, id: &SessionId) -> Option<(Record, Endings)> {
        let record = self.rows.get(id)?;
        Some((record.clone(), self.endings_of(record.user())))
    }
}

impl Shared {
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    pub(super) fn view<'a>(&'a self, state: &'a mut State) -> View<'a> {
        View { state, keep_ended: self.keep_ended, fault: self.fault }
    }

    fn load(&self, id: &SessionId, access: &Access) -> Loaded {
        let mut access = *access;
        if self.has(Fault::DeadlineTooLate) {
            access.at = access.at.saturating_sub(Duration::from_millis(1));
        }
        let Some((record, endings)) = self.state.lock().inspect(id) else {
            return Loaded::Absent(Absence::NotFound);
        };
        match record.absence(access.at, access.timeouts.as_ref(), &endings) {
            None => Loaded::Live(record),
            Some(absence) => Loaded::Absent(absence),
        }
    }

    /// A commit in one step, as it should be.
    pub(super) fn apply(&self, commit: &Commit) -> Result<Outcome> {
        let mut state = self.state.lock();
        let applied = apply(commit, &mut self.view(&mut state))?;
        for write in applied.write.into_iter().chain(applied.more) {
            state.rows.insert(write.id, write.after);
        }
        if let Outcome::Committed(record) = &applied.outcome {
            let timing = &mut state.timing;
            timing.longest_idle = timing.longest_idle.max(record.idle_timeout());
            timing.touch_interval = timing.touch_interval.max(commit.access.touch_interval);
        }
        Ok(applied.outcome)
    }

    fn touch(&self, id: &SessionId, access: &Access) -> Result<()> {
        let Some((record, endings)) = self.state.lock().inspect(id) else { return Ok(()) };
        if self.has(Fault::TouchRevives) {
            let mut header = record.header();
            header.mark = Mark::None;
            header.last_seen_at = header.last_seen_at.max(access.at);
            let revived = Record::new(&header, record.data())?;
            self.state.lock().rows.insert(*id, revived);
            return Ok(());
        }
        if record.absence(access.at, access.timeouts.as_ref(), &endings).is_some() {
            return Ok(());
        }
        if self.has(Fault::TouchRewritesData) {
            gap();
            self.state.lock().rows.insert(*id, record.touched(access.at));
            return Ok(());
        }
        let mut state = self.state.lock();
        let Some((record, endings)) = state.inspect(id) else { return Ok(()) };
        if record.absence(access.at, access.timeouts.as_ref(), &endings).is_none() {
            state.rows.insert(*id, record.touched(access.at));
        }
        Ok(())
    }

    fn page(&self, query: &Query) -> Page {
        let state = self.state.lock();
        let mut page = Page::default();
        let mut skip = self.has(Fault::PageSkips) && query.after.is_some();
        for (id, record) in &state.rows {
            let seen = query.after.is_some_and(|after| {
                if self.has(Fault::PageRepeats) { *id < after } else { *id <= after }
            });
            let endings = state.endings_of(record.user());
            let interval = state.timing.touch_interval;
            if seen || !query.filter.matches(id, record, &endings, query.at, interval) {
                continue;
            }
            if std::mem::take(&mut skip) {
                continue;
            }
            page.sessions.push(Summary::new(*id, record, &endings, query.at));
            if page.sessions.len() >= query.limit.max(1) {
                page.next = Some(*id);
                break;
            }
        }
        page
    }

    fn end(&self, end: &End) -> Result<EndReport> {
        let mut state = self.state.lock();
        match &end.target {
            Target::Sessions { ids, filter } => self.end_sessions(&mut state, end, ids, filter),
            Target::User(user) => Self::end_generation(&mut state, end, Some(user)),
            Target::Everyone => Self::end_generation(&mut state, end, None),
        }
    }

    fn end_sessions(
        &self,
        state: &mut State,
        end: &End,
        ids: &[SessionId],
        filter: &Filter,
    ) -> Result<EndReport> {
        let mut report = EndReport::default();
        for id in ids.iter().filter(|id| Some(**id) != end.except) {
            let Some((record, endings)) = state.inspect(id) else { continue };
            let interval = state.timing.touch_interval;
            let matches = self.has(Fault::EndIgnoresFilter)
                || filter.matches(id, &record, &endings, end.at, interval);
            match end_record(&record, &endings, end.at, end.by, self.keep_ended)? {
                None => report.already_over += 1,
                Some(after) if matches => {
                    state.rows.insert(*id, after);
                    report.ended += 1;
                }
                Some(_) => {}
            }
        }
        Ok(report)
    }

    fn end_generation(state: &mut State, end: &End, user: Option<&str>) -> Result<EndReport> {
        let spared = end.except.and_then(|id| Some((id, state.inspect(&id)?)));
        state.generation += 1;
        let ending = Ending { generation: state.generation, at: end.at, by: end.by };
        match user {
            Some(user) => drop(state.users.insert(user.into(), ending)),
            None => state.everyone = Some(ending),
        }
        if let Some((id, (record, endings))) = spared
            && record.absence(end.at, None, &endings).is_none()
        {
            let mut header = record.header();
            header.generation = state.generation;
            state.rows.insert(id, Record::new(&header, record.data())?);
        }
        Ok(EndReport::default())
    }

    fn sweep(&self, sweep: Sweep) -> Swept {
        let mut state = self.state.lock();
        let mut due = Vec::new();
        for id in state.rows.keys().copied().collect::<Vec<_>>() {
            let Some((record, endings)) = state.inspect(&id) else { continue };
            let ending = endings.ending(record.generation());
            if record.mark() == Mark::None
                && let Some(ending) = ending
                && let Ok(ended) =
                    record.ended(ending.at, ending.by, self.keep_ended, Duration::ZERO)
            {
                state.rows.insert(id, ended);
            }
            let Some((record, endings)) = state.inspect(&id) else { continue };
            if self.is_due(&record, &endings, sweep) {
                due.push(id);
            }
        }
        let swept = due.len().min(sweep.limit.max(1));
        for id in &due[..swept] {
            state.rows.remove(id);
        }
        Swept { removed: swept as u64, more: swept < due.len() }
    }

    fn is_due(&self, record: &Record, endings: &Endings, sweep: Sweep) -> bool {
        let at = sweep.at;
        if sweep.purge {
            let early = |by: Duration| record.expires_at().saturating_sub(by) <= at;
            return match self.fault {
                Fault::PurgeEndsLive if early(Duration::from_secs(60)) => true,
                Fault::PurgeTakesMarks => record.absence(at, None, endings).is_some(),
                _ => record.absence(at, None, endings).is_some() && !record.is_in_grace(at),
            };
        }
        let delay = if self.has(Fault::SweepsAtDeadline) { Duration::ZERO } else { SWEEP_DELAY };
        match record.mark() {
            Mark::None => at >= record.expires_at().saturating_add(delay),
            Mark::Ended { until, .. } | Mark::Superseded { until, .. } => at >= until,
        }
    }

    fn change_keys(&self, change: KeyChange) -> Result<KeyRing> {
        let longest_idle = self.state.lock().timing.longest_idle;
        if self.has(Fault::KeysInTwoSteps) {
            let before = self.keys.lock().clone();
            gap();
            let after = change.apply(&before, longest_idle)?;
            *self.keys.lock() = after.clone();
            return Ok(after);
        }
        let mut keys = self.keys.lock();
        *keys = change.apply(&keys, longest_idle)?;
        Ok(keys.clone())
    }
}

pub(super) struct View<'a> {
    state: &'a mut State,
    keep_ended: Duration,
    fault: Fault,
}

impl Rows for View<'_> {
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>> {
        Ok(self.state.rows.get(id).cloned())
    }

    fn endings(&mut self, user: Option<&str>) -> Result<Endings> {
        let blind = self.fault == Fault::CommitIgnoresGeneration;
        Ok(if blind { Endings::default() } else { self.state.endings_of(user) })
    }

    fn generation(&mut self) -> Result<u64> {
        Ok(self.state.generation)
    }

    fn sessions_of(&mut self, user: &str, limit: usize) -> Result<Vec<SessionId>> {
        let marked_too = self.fault == Fault::CapLooksAtEnded;
        let user_of = |record: &Record| {
            let of = if marked_too { record.user() } else { record.listed_user() };
            of == Some(user)
        };
        let of_user = self.state.rows.iter().filter(|(_, record)| user_of(record));
        Ok(of_user.map(|(id, _)| *id).take(limit).collect())
    }

    fn keep_ended(&self) -> Duration {
        self.keep_ended
    }
}

impl SessionStore for Model {
    fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        self.answer(|shared| {
            if shared.has(Fault::AbsenceFromOldState) {
                let mut seen = self.seen.lock();
                let old = seen.get(id).cloned();
                seen.clone_from(&shared.state.lock().rows);
                if old.is_none() {
                    return Ok(Loaded::Absent(Absence::NotFound));
                }
            }
            Ok(shared.load(id, access))
        })
    }

    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        self.answer(|shared| {
            let is_merge = matches!(commit.op, Op::Merge(_));
            if is_merge && shared.has(Fault::AnswersBeforeCommit) {
                let before = shared.state.lock().rows.get(&commit.id).cloned();
                let late = self.shared.clone();
                std::thread::spawn(move || {
                    gap();
                    late.commit(&commit)
                });
                return Ok(before.map_or(Outcome::Absent(Absence::NotFound), Outcome::Committed));
            }
            shared.commit(&commit)
        })
    }

    fn touch(&self, id: &SessionId, access: &Access) {
        // Nobody waits for a touch, and what could not be touched stays as it is.
        drop(self.shared.touch(id, access));
    }

    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        self.answer(|shared| {
            let found = shared.state.lock().inspect(id);
            Ok(found.map(|(record, endings)| Inspected { record, endings }))
        })
    }

    fn page(&self, query: &Query) -> Answer<Page> {
        self.answer(|shared| Ok(shared.page(query)))
    }

    fn end(&self, end: End) -> Answer<EndReport> {
        self.answer(|shared| {
            if shared.has(Fault::AnswersBeforeEnd) {
                let late = self.shared.clone();
                std::thread::spawn(move || {
                    gap();
                    late.end(&end)
                });
                return Ok(EndReport::default());
            }
            shared.end(&end)
        })
    }

    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        self.answer(|shared| Ok(shared.sweep(sweep)))
    }

    fn remove(&self, remove: Remove) -> Answer<Swept> {
        self.answer(|shared| Ok(shared.remove(&remove)))
    }

    fn records(&self, query: &Query) -> Answer<Records> {
        self.answer(|shared| shared.records(query))
    }

    fn import(&self, import: Import) -> Answer<Imported> {
        self.answer(|shared| shared.import(&import))
    }

    fn stats(&self) -> Answer<Stats> {
        self.answer(|shared| {
            let state = shared.state.lock();
            Ok(Stats {
                records: state.rows.len() as u64,
                stored_bytes: state.rows.values().map(|row| row.size_bytes() as u64).sum(),
                ..Stats::default()
            })
        })
    }

    fn timing(&self) -> Answer<Timing> {
        self.answer(|shared| Ok(shared.state.lock().timing))
    }

    fn keys(&self, _: Freshness) -> Answer<KeyRing> {
        self.answer(|shared| Ok(shared.keys.lock().clone()))
    }

    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        self.answer(|shared| shared.change_keys(change))
    }

    fn close(&self) -> Answer<()> {
        self.closed.store(true, Ordering::SeqCst);
        Answer::ready(Ok(()))
    }
}
