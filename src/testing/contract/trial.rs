//! A fresh store under test, and what the checks do with it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Failure, Opened, Setup, Suite, Verdict};
use crate::error::Result;
use crate::expiry::{Clock, Timeouts, Timestamp};
use crate::id::{SessionId, SessionToken};
use crate::record::{Absence, EndedBy, Record, State};
use crate::store::{
    Access, Commit, DEFAULT_MAX_DATA_BYTES, Draft, Loaded, Login, Op, Outcome, SessionCap,
    SessionStore, Sweep,
};

/// Returns a failure unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(Failure::new(format!($($message)+)));
        }
    };
}
pub(super) use ensure;

pub(super) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(super) const MILLI: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Of every session, unless a check is about timeouts: 1 day idle, 10 days absolute.
pub(super) const TIMEOUTS: Timeouts =
    Timeouts::new(Duration::from_secs(24 * 3600), Duration::from_secs(240 * 3600));
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// How long something that is done off the caller's path may take, in real time.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Store = Arc<dyn SessionStore>;
pub(super) type Racer<T> = Pin<Box<dyn Future<Output = Verdict<T>> + Send>>;

/// A fresh store with a clock that stands still. Cheap to clone.
#[derive(Clone)]
pub(super) struct Trial(Arc<Inner>);

struct Inner {
    opened: Opened,
    /// The store itself, and the one opened beside it if there is one.
    handles: Vec<Store>,
    clock: Clock,
}

impl Suite {
    pub(super) fn trial(&self) -> Verdict<Trial> {
        self.trial_with(&Setup::new())
    }

    pub(super) fn trial_with(&self, setup: &Setup) -> Verdict<Trial> {
        let opened = self.factory.open(setup)?;
        let mut handles = vec![opened.store.clone()];
        if let Some(beside) = &opened.beside {
            handles.push(beside()?);
        }
        Ok(Trial(Arc::new(Inner { opened, handles, clock: setup.clock.clone() })))
    }
}

impl Trial {
    pub(super) fn store(&self) -> &Store {
        &self.0.opened.store
    }

    /// The handle of the `n`th racer: they take turns.
    pub(super) fn handle(&self, n: usize) -> &Store {
        &self.0.handles[n % self.0.handles.len()]
    }

    pub(super) fn handles(&self) -> &[Store] {
        &self.0.handles
    }

    /// The same sessions after [`SessionStore::close`], where the store outlives it.
    pub(super) fn reopen(&self) -> Verdict<Option<Store>> {
        Ok(self.0.opened.after_close.as_ref().map(|open| open()).transpose()?)
    }

    /// Where to renew `id` to; with `anywhere` to any ID, if the store leaves it that freedom.
    pub(super) fn target(&self, id: SessionId, anywhere: bool) -> Verdict<SessionId> {
        if anywhere && !self.0.opened.keeps_shards { new_id() } else { sibling_of(id) }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(super) fn access(&self) -> Access {
        access(self.now())
    }

    /// Commits through the `n`th handle.
    pub(super) async fn commit_on(&self, n: usize, id: SessionId, op: Op) -> Result<Outcome> {
        let max_data_bytes = DEFAULT_MAX_DATA_BYTES;
        let commit = Commit { id, access: self.access(), max_data_bytes, op };
        self.handle(n).commit(commit).await
    }

    pub(super) async fn commit(&self, id: SessionId, op: Op) -> Result<Outcome> {
        self.commit_on(0, id, op).await
    }

    /// The record that `op` must commit.
    pub(super) async fn committed(&self, id: SessionId, op: Op) -> Verdict<Record> {
        committed(self.commit(id, op).await?)
    }

    /// A new anonymous session.
    pub(super) async fn create(&self, entries: &[(&str, u64)]) -> Verdict<SessionId> {
        let id = new_id()?;
        self.committed(id, create(draft(entries)?)).await?;
        Ok(id)
    }

    /// A new session of `user`.
    pub(super) async fn login(&self, user: &str) -> Verdict<SessionId> {
        let id = new_id()?;
        self.committed(id, create_login(user, None)).await?;
        Ok(id)
    }

    /// The record as `load` of the store itself answers it; it must be live.
    pub(super) async fn live(&self, id: SessionId) -> Verdict<Record> {
        match self.store().load(&id, &self.access()).await? {
            Loaded::Live(record) => Ok(record),
            Loaded::Absent(absence) => {
                Err(Failure::new(format!("a live session was not loaded: {absence:?}")))
            }
        }
    }

    /// Why `load` finds no live session; every handle must say so. One that did not end it
    /// itself may take a moment.
    pub(super) async fn absent(&self, id: SessionId) -> Verdict<Absence> {
        ensure!(!self.is_live(id).await?, "a session that is over was found alive by inspect");
        let mut absences = Vec::new();
        for store in self.handles() {
            let patience = if self.handles().len() > 1 { SECOND } else { Duration::ZERO };
            let began = Instant::now();
            let absence = loop {
                match store.load(&id, &self.access()).await? {
                    Loaded::Absent(absence) => break absence,
                    Loaded::Live(_) if began.elapsed() < patience => pause().await,
                    Loaded::Live(_) => {
                        return Err(Failure::new("a session that is over was loaded"));
                    }
                }
            };
            absences.push(absence);
        }
        ensure!(absences.windows(2).all(|two| two[0] == two[1]), "handles differ: {absences:?}");
        absences.pop().ok_or_else(|| Failure::new("no handle"))
    }

    /// The record in the current state.
    pub(super) async fn record(&self, id: SessionId) -> Verdict<Option<Record>> {
        Ok(self.store().inspect(&id).await?.map(|inspected| inspected.record))
    }

    /// Its state in the current state of the store; `None` without a record.
    pub(super) async fn state(&self, id: SessionId) -> Verdict<Option<State>> {
        let inspected = self.store().inspect(&id).await?;
        Ok(inspected.map(|found| found.record.state(self.now(), &found.endings)))
    }

    /// Whether it is live in the current state of the store.
    pub(super) async fn is_live(&self, id: SessionId) -> Verdict<bool> {
        Ok(self.state(id).await? == Some(State::Live))
    }

    /// Sweeps as the store itself would, until there is nothing left to do.
    pub(super) async fn sweep(&self) -> Verdict<u64> {
        let mut removed = 0;
        for _ in 0..100_000 {
            let sweep = Sweep { at: self.now(), limit: 100, purge: false };
            let swept = self.store().sweep(sweep).await?;
            removed += swept.removed;
            if !swept.more {
                return Ok(removed);
            }
        }
        Err(Failure::new("sweeping comes to no end"))
    }
}

/// At `at`, with [`TIMEOUTS`].
pub(super) fn access(at: Timestamp) -> Access {
    Access { at, timeouts: Some(TIMEOUTS), touch_interval: Duration::ZERO }
}

pub(super) fn new_id() -> Verdict<SessionId> {
    Ok(SessionToken::generate()?.id())
}

/// An ID in the same shard, as a renewal has it.
pub(super) fn sibling_of(id: SessionId) -> Verdict<SessionId> {
    let mut bytes = *new_id()?.as_bytes();
    bytes[..2].copy_from_slice(&id.as_bytes()[..2]);
    Ok(SessionId::from_bytes(bytes))
}

pub(super) fn draft(entries: &[(&str, u64)]) -> Verdict<Draft> {
    let mut draft = Draft::default();
    for (key, value) in entries {
        draft.changes.set(key, number(*value))?;
    }
    Ok(draft)
}

pub(super) fn create(draft: Draft) -> Op {
    Op::Create { realm: None, draft, login: None }
}

pub(super) fn login(user: &str, cap: Option<SessionCap>) -> Login {
    Login { user: user.into(), cap }
}

pub(super) fn create_login(user: &str, cap: Option<SessionCap>) -> Op {
    Op::Create { realm: None, draft: Draft::default(), login: Some(login(user, cap)) }
}

pub(super) fn merge(entries: &[(&str, u64)]) -> Verdict<Op> {
    Ok(Op::Merge(draft(entries)?))
}

pub(super) fn merge_unseen(realm: Option<&str>, entries: &[(&str, u64)]) -> Verdict<Op> {
    Ok(Op::MergeUnseen { realm: realm.map(Into::into), draft: draft(entries)? })
}

pub(super) fn renew(new_id: SessionId) -> Op {
    Op::Renew { new_id, draft: Draft::default(), login: None, grace: GRACE }
}

pub(super) fn renew_login(new_id: SessionId, user: &str) -> Op {
    let login = Some(login(user, None));
    Op::Renew { new_id, draft: Draft::default(), login, grace: GRACE }
}

pub(super) fn logout() -> Op {
    Op::End { by: EndedBy::Application, grace: GRACE }
}

pub(super) fn compare_and_set(key: &str, expected: Option<u64>, value: u64) -> Op {
    Op::CompareAndSet {
        key: key.into(),
        expected: expected.map(|expected| number(expected).into()),
        value: Some(number(value).into()),
    }
}

/// A number as one `MessagePack` value.
pub(super) fn number(value: u64) -> Vec<u8> {
    [&[0xcf], &value.to_be_bytes()[..]].concat()
}

pub(super) fn number_of(record: &Record, key: &str) -> Option<u64> {
    let (_, digits) = record.data().get(key)?.split_first()?;
    Some(u64::from_be_bytes(digits.try_into().ok()?))
}

pub(super) fn committed(outcome: Outcome) -> Verdict<Record> {
    match outcome {
        Outcome::Committed(record) => Ok(record),
        other => Err(Failure::new(format!("not committed, but {other:?}"))),
    }
}

/// The reason why nothing was committed.
pub(super) fn refused(outcome: &Outcome) -> Verdict<Absence> {
    match outcome {
        Outcome::Absent(absence) => Ok(*absence),
        other => Err(Failure::new(format!("a commit to what is over was answered {other:?}"))),
    }
}

pub(super) fn is_committed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed(_))
}

/// Whether a commit was refused because the session was ended by the application.
pub(super) fn is_ended(absence: Absence) -> bool {
    matches!(absence, Absence::Ended { by: EndedBy::Application, .. })
}

/// Boxes a racer.
pub(super) fn racer<T>(run: impl Future<Output = Verdict<T>> + Send + 'static) -> Racer<T> {
    Box::pin(run)
}

/// Starts all at the same moment, each on a thread of its own, and waits for all.
pub(super) async fn race<T: Send + 'static>(racers: Vec<Racer<T>>) -> Verdict<Vec<T>> {
    let runtime = tokio::runtime::Handle::current();
    let gate = Arc::new(Gate { expected: racers.len(), arrived: AtomicUsize::new(0) });
    let threads: Vec<_> = racers
        .into_iter()
        .map(|racer| {
            let (gate, inner) = (gate.clone(), runtime.clone());
            runtime.spawn_blocking(move || {
                gate.pass();
                inner.block_on(racer)
            })
        })
        .collect();
    let mut results = Vec::with_capacity(threads.len());
    for thread in threads {
        let result = thread.await;
        results.push(result.map_err(|e| Failure::new(format!("the store panicked: {e}")))??);
    }
    Ok(results)
}

/// Opens when all have arrived.
struct Gate {
    expected: usize,
    arrived: AtomicUsize,
}

impl Gate {
    /// Spins, since being woken takes longer than most of what is raced; but not for long, since
    /// there may be fewer processors than racers.
    fn pass(&self) {
        let place = self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::SeqCst) < self.expected {
            spins += 1;
            if spins.is_multiple_of(4096) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        // Whoever comes last would always be a little ahead of who spins.
        let head_start = JITTER.fetch_add(1, Ordering::Relaxed).wrapping_mul(37 + place) % 256;
        for _ in 0..head_start {
            std::hint::spin_loop();
        }
    }
}

static JITTER: AtomicUsize = AtomicUsize::new(0);

/// A race of two.
pub(super) async fn race_two<A: Send + 'static, B: Send + 'static>(
    one: impl Future<Output = Verdict<A>> + Send + 'static,
    other: impl Future<Output = Verdict<B>> + Send + 'static,
) -> Verdict<(A, B)> {
    enum Either<A, B> {
        One(A),
        Other(B),
    }
    let one = racer(async { one.await.map(Either::One) });
    let other = racer(async { other.await.map(Either::Other) });
    let mut results = race(vec![one, other]).await?.into_iter();
    match (results.next(), results.next()) {
        (Some(Either::One(one)), Some(Either::Other(other))) => Ok((one, other)),
        _ => Err(Failure::new("two results were expected")),
    }
}

/// Waits, in real time and for a bounded while, until `holds`.
pub(super) async fn eventually<F>(what: &str, mut holds: impl FnMut() -> F + Send) -> Verdict
where
    F: Future<Output = Verdict<bool>> + Send,
{
    let began = Instant::now();
    while !holds().await? {
        ensure!(began.elapsed() < PATIENCE, "in vain: {what}");
        pause().await;
    }
    Ok(())
}

pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
