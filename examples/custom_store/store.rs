//! Maps under one lock: the smallest store that keeps the contract.
//!
//! What sessions are, and what a commit does to one, is not decided here but by [`apply`]. A store
//! has to find rows, to write several of them in one step, and to say nothing before that is done.
//! With a database, [`Tables`] are tables, and the lock is a transaction; what may wait for it then
//! belongs on a thread of its own and is answered by [`Answer::pending`].
//!
//! Two things it leaves out: it forgets everything with its process, and has no bound.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fastsession::record::{Absence, Ending, Endings, Mark};
use fastsession::store::{
    Access, Admission, Answer, Commit, DEFAULT_KEEP_ENDED, End, EndReport, Freshness, Import,
    Imported, Inspected, KeyChange, Loaded, Outcome, Page, Query, Records, Remove, Rows,
    SWEEP_DELAY, Stats, Sweep, Swept, Target, Timing, admit, apply, end_record, settled,
};
use fastsession::{Clock, Error, KeyRing, Record, Result, SessionId, SessionStore, Summary};

/// Cheap to clone, as every store: clones share the sessions.
#[derive(Clone)]
pub(crate) struct MyStore {
    shared: Arc<Shared>,
}

/// What may be set before a store is opened.
pub(crate) struct Options {
    pub(crate) clock: Clock,
    pub(crate) sweep_interval: Duration,
    pub(crate) keep_ended: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let sweep_interval = Duration::from_secs(60);
        Self { clock: Clock::system(), sweep_interval, keep_ended: DEFAULT_KEEP_ENDED }
    }
}

struct Shared {
    clock: Clock,
    tables: Mutex<Tables>,
}

struct Tables {
    /// In order of ID, for pages.
    rows: BTreeMap<SessionId, Record>,
    /// One more for each ending of a user's or everyone's sessions.
    generation: u64,
    everyone: Option<Ending>,
    users: HashMap<Box<str>, Ending>,
    timing: Timing,
    keys: KeyRing,
    keep_ended: Duration,
    is_closed: bool,
}

impl MyStore {
    pub(crate) fn open(options: Options) -> Result<Self> {
        let Options { clock, sweep_interval, keep_ended } = options;
        let tables = Mutex::new(Tables {
            rows: BTreeMap::new(),
            generation: 0,
            everyone: None,
            users: HashMap::new(),
            timing: Timing::default(),
            keys: KeyRing::generate(clock.now())?,
            keep_ended,
            is_closed: false,
        });
        let shared = Arc::new(Shared { clock, tables });
        let store = Arc::downgrade(&shared);
        std::thread::spawn(move || sweep_until_gone(&store, sweep_interval));
        Ok(Self { shared })
    }

    /// One step: nobody else sees the tables meanwhile. Here the answer is at hand at once.
    fn step<T>(&self, step: impl FnOnce(&mut Tables) -> Result<T>) -> Answer<T> {
        let mut tables = self.shared.lock();
        if tables.is_closed {
            return Answer::ready(Err(Error::unavailable("the store was closed")));
        }
        Answer::ready(step(&mut tables))
    }
}

impl Shared {
    /// No step leaves anything half done where it can panic.
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sweep_until_gone(store: &Weak<Shared>, interval: Duration) {
    loop {
        std::thread::sleep(interval);
        let Some(shared) = store.upgrade() else { return };
        let sweep = Sweep { at: shared.clock.now(), limit: 1000, purge: false };
        while shared.lock().sweep(sweep).is_ok_and(|swept| swept.more) {}
    }
}

/// How [`apply`] reads.
impl Rows for Tables {
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>> {
        Ok(self.rows.get(id).cloned())
    }

    fn endings(&mut self, user: Option<&str>) -> Result<Endings> {
        Ok(self.endings_of(user))
    }

    fn generation(&mut self) -> Result<u64> {
        Ok(self.generation)
    }

    fn sessions_of(&mut self, user: &str, limit: usize) -> Result<Vec<SessionId>> {
        let of_user = self.rows.iter().filter(|(_, record)| record.listed_user() == Some(user));
        Ok(of_user.map(|(id, _)| *id).take(limit).collect())
    }

    fn keep_ended(&self) -> Duration {
        self.keep_ended
    }
}

impl Tables {
    fn endings_of(&self, user: Option<&str>) -> Endings {
        let user = user.and_then(|user| self.users.get(user).copied());
        Endings { everyone: self.everyone, user }
    }

    fn find(&self, id: &SessionId) -> Option<(Record, Endings)> {
        let record = self.rows.get(id)?;
        Some((record.clone(), self.endings_of(record.user())))
    }

    fn load(&self, id: &SessionId, access: &Access) -> Loaded {
        let Some((record, endings)) = self.find(id) else {
            return Loaded::Absent(Absence::NotFound);
        };
        match record.absence(access.at, access.timeouts.as_ref(), &endings) {
            None => Loaded::Live(record),
            Some(absence) => Loaded::Absent(absence),
        }
    }

    fn commit(&mut self, commit: &Commit) -> Result<Outcome> {
        let applied = apply(commit, self)?;
        for write in applied.write.into_iter().chain(applied.more) {
            self.rows.insert(write.id, write.after);
        }
        if let Outcome::Committed(record) = &applied.outcome {
            let Timing { longest_idle, touch_interval } = self.timing;
            self.timing.longest_idle = longest_idle.max(record.idle_timeout());
            self.timing.touch_interval = touch_interval.max(commit.access.touch_interval);
        }
        Ok(applied.outcome)
    }

    fn touch(&mut self, id: &SessionId, access: &Access) {
        if let Loaded::Live(record) = self.load(id, access) {
            self.rows.insert(*id, record.touched(access.at));
        }
    }

    /// Rows that match, in order of ID, and whether there are more than were asked for.
    fn matching(&self, query: &Query) -> (Vec<(SessionId, Record, Endings)>, Option<SessionId>) {
        let mut found: Vec<(SessionId, Record, Endings)> = Vec::new();
        let interval = self.timing.touch_interval;
        for (id, record) in &self.rows {
            let endings = self.endings_of(record.user());
            let passed = query.after.is_some_and(|after| *id <= after);
            if passed || !query.filter.matches(id, record, &endings, query.at, interval) {
                continue;
            }
            if found.len() >= query.limit.max(1) {
                let last = found.last().map(|(id, ..)| *id);
                return (found, last);
            }
            found.push((*id, record.clone(), endings));
        }
        (found, None)
    }

    fn end(&mut self, end: &End) -> Result<EndReport> {
        let user = match &end.target {
            Target::User(user) => Some(user.clone()),
            Target::Everyone => None,
            Target::Sessions { ids, filter } => {
                let mut report = EndReport::default();
                for id in ids.iter().filter(|id| Some(**id) != end.except) {
                    let Some((record, endings)) = self.find(id) else { continue };
                    let interval = self.timing.touch_interval;
                    let matches = filter.matches(id, &record, &endings, end.at, interval);
                    match end_record(&record, &endings, end.at, end.by, self.keep_ended)? {
                        None => report.already_over += 1,
                        Some(after) if matches => {
                            self.rows.insert(*id, after);
                            report.ended += 1;
                        }
                        Some(_) => {}
                    }
                }
                return Ok(report);
            }
        };
        self.end_generation(end, user)
    }

    /// However many sessions: a number that every load and commit compares.
    fn end_generation(&mut self, end: &End, user: Option<Box<str>>) -> Result<EndReport> {
        let spared = end.except.and_then(|id| Some((id, self.find(&id)?)));
        self.generation += 1;
        let ending = Ending { generation: self.generation, at: end.at, by: end.by };
        match user {
            Some(user) => drop(self.users.insert(user, ending)),
            None => self.everyone = Some(ending),
        }
        if let Some((id, (record, endings))) = spared
            && record.absence(end.at, None, &endings).is_none()
        {
            let mut header = record.header();
            header.generation = self.generation;
            self.rows.insert(id, Record::new(&header, record.data())?);
        }
        Ok(EndReport::default())
    }

    /// An engine with many rows keeps an index by [`Record::index_key`] for this.
    fn sweep(&mut self, sweep: Sweep) -> Result<Swept> {
        let mut due = Vec::new();
        for (id, record) in &mut self.rows {
            let user = record.user().and_then(|user| self.users.get(user).copied());
            let endings = Endings { everyone: self.everyone, user };
            // What an ending of many ended loses its data now.
            *record = settled(record, &endings, self.keep_ended)?;
            if is_due(record, &endings, sweep) {
                due.push(*id);
            }
        }
        let removed = due.len().min(sweep.limit.max(1));
        for id in &due[..removed] {
            self.rows.remove(id);
        }
        Ok(Swept { removed: removed as u64, more: removed < due.len() })
    }

    fn import(&mut self, import: &Import) -> Result<Imported> {
        let mut done = Imported::default();
        for (id, record) in &import.records {
            let there = self.find(id);
            let there = there.map(|(record, endings)| settled(&record, &endings, self.keep_ended));
            let endings = self.endings_of(record.user());
            match admit(record, there.transpose()?.as_ref(), &endings, self.generation)? {
                Admission::Same => done.same += 1,
                Admission::Ended => done.ended += 1,
                Admission::Conflict => done.conflicts.push(*id),
                Admission::Insert(after) => {
                    let longest_idle = self.timing.longest_idle.max(after.idle_timeout());
                    self.timing.longest_idle = longest_idle;
                    self.rows.insert(*id, after);
                    done.imported += 1;
                }
            }
        }
        Ok(done)
    }

    fn remove(&mut self, remove: &Remove) -> Swept {
        let mut swept = Swept::default();
        for id in &remove.ids {
            let Some((record, endings)) = self.find(id) else { continue };
            if remove.covers(id, &record, &endings, self.timing.touch_interval) {
                self.rows.remove(id);
                swept.removed += 1;
            }
        }
        swept
    }
}

fn is_due(record: &Record, endings: &Endings, sweep: Sweep) -> bool {
    if sweep.purge {
        return record.absence(sweep.at, None, endings).is_some() && !record.is_in_grace(sweep.at);
    }
    match record.mark() {
        Mark::None => sweep.at >= record.expires_at().saturating_add(SWEEP_DELAY),
        Mark::Ended { until, .. } | Mark::Superseded { until, .. } => sweep.at >= until,
        // Of a later version: not this store's to remove.
        _ => false,
    }
}

impl SessionStore for MyStore {
    fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        self.step(|tables| Ok(tables.load(id, access)))
    }

    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        self.step(|tables| tables.commit(&commit))
    }

    fn touch(&self, id: &SessionId, access: &Access) {
        self.shared.lock().touch(id, access);
    }

    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        self.step(|tables| {
            let found = tables.find(id);
            Ok(found.map(|(record, endings)| Inspected { record, endings }))
        })
    }

    fn page(&self, query: &Query) -> Answer<Page> {
        self.step(|tables| {
            let (found, next) = tables.matching(query);
            let summary = |(id, record, endings)| Summary::new(id, &record, &endings, query.at);
            let sessions = found.into_iter().map(summary).collect();
            Ok(Page { sessions, next, corrupt: Vec::new() })
        })
    }

    fn end(&self, end: End) -> Answer<EndReport> {
        self.step(|tables| tables.end(&end))
    }

    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        self.step(|tables| tables.sweep(sweep))
    }

    fn remove(&self, remove: Remove) -> Answer<Swept> {
        self.step(|tables| Ok(tables.remove(&remove)))
    }

    fn records(&self, query: &Query) -> Answer<Records> {
        self.step(|tables| {
            let (found, next) = tables.matching(query);
            let whole = |(id, record, endings): (_, Record, _)| {
                settled(&record, &endings, tables.keep_ended).map(|record| (id, record))
            };
            let records = found.into_iter().map(whole).collect::<Result<_>>()?;
            Ok(Records { records, next, corrupt: Vec::new() })
        })
    }

    fn import(&self, import: Import) -> Answer<Imported> {
        self.step(|tables| tables.import(&import))
    }

    fn stats(&self) -> Answer<Stats> {
        self.step(|tables| {
            let mut stats = Stats::default();
            stats.records = tables.rows.len() as u64;
            stats.stored_bytes = tables.rows.values().map(|row| row.size_bytes() as u64).sum();
            Ok(stats)
        })
    }

    fn timing(&self) -> Answer<Timing> {
        self.step(|tables| Ok(tables.timing))
    }

    fn keys(&self, _: Freshness) -> Answer<KeyRing> {
        self.step(|tables| Ok(tables.keys.clone()))
    }

    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        self.step(|tables| {
            tables.keys = change.apply(&tables.keys, tables.timing.longest_idle)?;
            Ok(tables.keys.clone())
        })
    }

    fn close(&self) -> Answer<()> {
        self.shared.lock().is_closed = true;
        Answer::ready(Ok(()))
    }
}
