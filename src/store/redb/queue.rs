//! What waits for the writer: jobs with somebody to answer, and touches without.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::log::Noting;
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::store::{
    Access, Commit, End, EndReport, Import, Imported, KeyChange, Op, Outcome, Remove, Sweep, Swept,
    Tally,
};

/// How long a touch may wait for company.
const TOUCH_DELAY: Duration = Duration::from_secs(1);
/// How long what was to be done at a certain time is put off for what is queued.
const PATIENCE: Duration = Duration::from_millis(50);
/// More sessions than this are not touched at once; the next request of each tries again.
const MAX_TOUCHES: usize = 1 << 20;
/// Most touches in one transaction, which others wait for.
const TOUCHES_AT_ONCE: usize = 4096;

/// Work for the writer, with whom to answer.
pub(super) enum Job {
    Commit(Commit, Reply<Outcome>),
    End(End, Reply<EndReport>),
    Sweep(Sweep, Reply<Swept>),
    Remove(Remove, Reply<Swept>),
    Import(Import, Reply<Imported>),
    ChangeKeys(KeyChange, Reply<KeyRing>),
    HoldKeys(Reply<()>),
    /// Adds to the entry of a note.
    Note(Arc<Noting>, Tally, Reply<()>),
    /// One that a note counts.
    Noted(Arc<Noting>, Box<Job>),
}

impl Job {
    /// Claims the job for the writer. False if whoever asked has given up.
    fn take(&self) -> bool {
        self.fate().compare_exchange(QUEUED, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn fate(&self) -> &AtomicU8 {
        match self {
            Self::Commit(_, reply) => &reply.fate,
            Self::End(_, reply) => &reply.fate,
            Self::Sweep(_, reply) | Self::Remove(_, reply) => &reply.fate,
            Self::Import(_, reply) => &reply.fate,
            Self::ChangeKeys(_, reply) => &reply.fate,
            Self::HoldKeys(reply) | Self::Note(_, _, reply) => &reply.fate,
            Self::Noted(_, job) => job.fate(),
        }
    }

    /// Whether it ends sessions or removes what is over, or is as small and as urgent.
    pub(super) fn makes_room(&self) -> bool {
        match self {
            Self::Commit(commit, _) => matches!(commit.op, Op::End { .. }),
            Self::Import(..) => false,
            Self::Noted(_, job) => job.makes_room(),
            _ => true,
        }
    }

    /// Whether it is a step of many, which may have to wait for what those before it have freed.
    pub(super) fn sweeps(&self) -> bool {
        match self {
            Self::Sweep(..) => true,
            Self::Noted(_, job) => job.sweeps(),
            _ => false,
        }
    }

    /// The same, removing no more than `rows` if it removes any.
    pub(super) fn limited(mut self, rows: usize) -> Self {
        match &mut self {
            Self::Sweep(sweep, _) => sweep.limit = sweep.limit.min(rows),
            Self::Noted(_, job) => {
                if let Self::Sweep(sweep, _) = &mut **job {
                    sweep.limit = sweep.limit.min(rows);
                }
            }
            _ => {}
        }
        self
    }

    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Commit(_, reply) => reply.send(Err(error)),
            Self::End(_, reply) => reply.send(Err(error)),
            Self::Sweep(_, reply) | Self::Remove(_, reply) => reply.send(Err(error)),
            Self::Import(_, reply) => reply.send(Err(error)),
            Self::ChangeKeys(_, reply) => reply.send(Err(error)),
            Self::HoldKeys(reply) | Self::Note(_, _, reply) => reply.send(Err(error)),
            Self::Noted(_, job) => job.fail(error),
        }
    }
}

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const ABANDONED: u8 = 2;

/// The writer's end of an answer.
pub(super) struct Reply<T> {
    sender: oneshot::Sender<Result<T>>,
    fate: Arc<AtomicU8>,
}

/// The asker's end. Dropped before the writer took the job, it takes the job back.
pub(super) struct Waiter<T> {
    receiver: oneshot::Receiver<Result<T>>,
    fate: Fate,
}

struct Fate(Arc<AtomicU8>);

impl Fate {
    /// Takes the job back. False if the writer has it.
    fn abandon(&self) -> bool {
        self.0.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
            != Err(TAKEN)
    }

    /// Takes the job back, and says what that came to.
    fn gave_up(&self, wait: Duration) -> Error {
        if self.abandon() {
            Error::unavailable(format!("the store did not get to it within {wait:?}"))
        } else {
            Error::unknown_outcome(format!("the store did not answer within {wait:?}"))
        }
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        self.abandon();
    }
}

pub(super) fn reply<T>() -> (Reply<T>, Waiter<T>) {
    let (sender, receiver) = oneshot::channel();
    let fate = Arc::new(AtomicU8::new(QUEUED));
    (Reply { sender, fate: fate.clone() }, Waiter { receiver, fate: Fate(fate) })
}

impl<T> Reply<T> {
    pub(super) fn send(self, answer: Result<T>) {
        // Who gave up waiting is not there any more.
        let _ = self.sender.send(answer);
    }
}

impl<T> Waiter<T> {
    /// The answer, which has been given by now.
    pub(super) fn now(mut self) -> Result<T> {
        let gone = Error::unknown_outcome("the store's writer gave no answer");
        self.receiver.try_recv().unwrap_or(Err(gone))
    }

    /// Blocks for the answer, for at most `wait`: for opening a store, outside of a runtime.
    pub(super) fn blocking_answer(mut self, wait: Duration) -> Result<T> {
        let until = Instant::now() + wait;
        loop {
            match self.receiver.try_recv() {
                Ok(answer) => return answer,
                Err(oneshot::error::TryRecvError::Closed) => {
                    return Err(Error::unknown_outcome("the store's writer is gone"));
                }
                Err(oneshot::error::TryRecvError::Empty) if Instant::now() >= until => {
                    return Err(self.fate.gave_up(wait));
                }
                Err(oneshot::error::TryRecvError::Empty) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Waits for the answer, for at most `wait`.
    pub(super) async fn answer(self, wait: Duration) -> Result<T> {
        match tokio::time::timeout(wait, self.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::unknown_outcome("the store's writer is gone")),
            Err(_) => Err(self.fate.gave_up(wait)),
        }
    }
}

/// Jobs and touches on their way to the writer.
pub(super) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    touches: HashMap<SessionId, Access>,
    touched_since: Option<Instant>,
    /// Touches whose time has come, in order of ID, last first.
    due_touches: Vec<(SessionId, Access)>,
    broken: Option<u64>,
    closing: bool,
    closed_waiters: Vec<oneshot::Sender<Result<()>>>,
    closed: bool,
}

/// Why the writer woke.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// There are jobs, or touches whose time has come.
    Work,
    /// The time given came first.
    Time,
    /// A reader found that the opening of this number is of no more use.
    Broken(u64),
    /// The store is being closed.
    Close,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), bell: Condvar::new(), capacity }
    }

    /// Puts a job in line, or answers it with the reason why not.
    pub(super) fn push(&self, job: Job) {
        let mut state = self.state.lock();
        let refused = if state.closing {
            Some(Error::unavailable("the store was closed"))
        } else if state.jobs.len() >= self.capacity {
            Some(Error::unavailable("the store has too much to do"))
        } else {
            None
        };
        match refused {
            Some(error) => {
                drop(state);
                job.fail(error);
            }
            None => {
                state.jobs.push_back(job);
                drop(state);
                self.bell.notify_one();
            }
        }
    }

    /// Remembers that a session was active.
    pub(super) fn touch(&self, id: &SessionId, access: &Access) {
        let mut state = self.state.lock();
        if state.closing || state.touches.len() >= MAX_TOUCHES {
            return;
        }
        let known = state.touches.entry(*id).or_insert(*access);
        known.at = known.at.max(access.at);
        if state.touched_since.is_none() {
            state.touched_since = Some(Instant::now());
            drop(state);
            // The writer may be asleep without a time set.
            self.bell.notify_one();
        }
    }

    /// Says that the opening `number` is of no more use.
    pub(super) fn report_broken(&self, number: u64) {
        let mut state = self.state.lock();
        state.broken = state.broken.max(Some(number));
        drop(state);
        self.bell.notify_one();
    }

    /// Asks the writer to finish; `done` is told when it has.
    pub(super) fn close(&self, done: Option<oneshot::Sender<Result<()>>>) {
        let mut state = self.state.lock();
        state.closing = true;
        match done {
            Some(done) if state.closed => drop(done.send(Ok(()))),
            Some(done) => state.closed_waiters.push(done),
            None => {}
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Waits until there is something to do, or until `time`: what is queued goes first, but for
    /// [`PATIENCE`], since under a steady load something always is.
    pub(super) fn wait(&self, time: Option<Instant>) -> Call {
        let mut state = self.state.lock();
        loop {
            if let Some(number) = state.broken.take() {
                return Call::Broken(number);
            }
            let touches_due = state.touched_since.map(|since| since + TOUCH_DELAY);
            let now = Instant::now();
            if time.is_some_and(|time| time + PATIENCE <= now) {
                return Call::Time;
            }
            let touches = !state.due_touches.is_empty();
            if !state.jobs.is_empty() || touches || touches_due.is_some_and(|due| due <= now) {
                return Call::Work;
            }
            if state.closing {
                return Call::Close;
            }
            if time.is_some_and(|time| time <= now) {
                return Call::Time;
            }
            match [time, touches_due].into_iter().flatten().min() {
                Some(until) => drop(self.bell.wait_until(&mut state, until)),
                None => self.bell.wait(&mut state),
            }
        }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn len(&self) -> usize {
        self.state.lock().jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().jobs.is_empty()
    }

    /// Claims up to `limit` jobs.
    pub(super) fn take(&self, limit: usize) -> Vec<Job> {
        let mut state = self.state.lock();
        let count = state.jobs.len().min(limit);
        state.jobs.drain(..count).filter(Job::take).collect()
    }

    /// Puts jobs that were claimed, and not begun, first in line again.
    pub(super) fn put_back(&self, jobs: impl DoubleEndedIterator<Item = Job>) {
        let mut state = self.state.lock();
        for job in jobs.rev() {
            job.fate().store(QUEUED, Ordering::Release);
            state.jobs.push_front(job);
        }
    }

    /// Waits for `expected` jobs, for at most `pause`, and claims up to `limit`.
    pub(super) fn take_within(&self, limit: usize, expected: usize, pause: Duration) -> Vec<Job> {
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        while state.jobs.len() < expected && !self.bell.wait_until(&mut state, until).timed_out() {}
        drop(state);
        self.take(limit)
    }

    /// Claims touches, so many at a time, if their time has come or the store is being closed.
    pub(super) fn take_touches(&self) -> Vec<(SessionId, Access)> {
        if let Some(touches) = self.newly_due() {
            let mut due: Vec<_> = touches.into_iter().collect();
            // Whoever is active does not wait for that.
            due.sort_unstable_by_key(|(id, _)| Reverse(*id));
            self.state.lock().due_touches = due;
        }
        let due = &mut self.state.lock().due_touches;
        let mut touches = due.split_off(due.len().saturating_sub(TOUCHES_AT_ONCE));
        touches.reverse();
        touches
    }

    /// The touches whose time has come, once those before them are done.
    fn newly_due(&self) -> Option<HashMap<SessionId, Access>> {
        let mut state = self.state.lock();
        let is_time = state.touched_since.is_some_and(|since| since.elapsed() >= TOUCH_DELAY);
        let are_due = state.due_touches.is_empty() && (is_time || state.closing);
        are_due.then(|| {
            state.touched_since = None;
            std::mem::take(&mut state.touches)
        })
    }

    /// Answers everything in line with the same error.
    pub(super) fn fail_all(&self, error: &Error) {
        let jobs: Vec<Job> = self.state.lock().jobs.drain(..).collect();
        for job in jobs {
            job.fail(error.clone());
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Waits `pause` between two attempts to open the file, answering what comes in meanwhile.
    pub(super) fn pause(&self, pause: Duration, error: &Error) {
        let until = Instant::now() + pause;
        loop {
            self.fail_all(error);
            let mut state = self.state.lock();
            if state.closing || Instant::now() >= until {
                return;
            }
            if state.jobs.is_empty() {
                self.bell.wait_until(&mut state, until);
            }
        }
    }

    /// The writer's last word.
    pub(super) fn closed(&self, result: &Result<()>) {
        let error = Error::new(Kind::Unavailable, "the store was closed");
        self.fail_all(&error);
        let mut state = self.state.lock();
        state.closed = true;
        for waiter in state.closed_waiters.drain(..) {
            let _ = waiter.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests;
