//! What every [`SessionStore`] must do, as checks that can be run against any.
//!
//! Each [`Check`] is named after the rule it holds. It opens stores of its own, so that checks
//! need no order and may run side by side; what it says of a store is a [`Failure`], never a
//! panic. Checks that race calls do so for a number of [rounds](Suite::rounds), on threads of a
//! tokio runtime, which needs its timer.
//!
//! A store that can be opened a second time, beside the first or after it was closed, says so in
//! [`Opened`], and is then raced across both handles and reopened.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::expiry::Clock;
use crate::store::{DEFAULT_KEEP_ENDED, SessionStore};

mod bounds;
mod caps;
mod commits;
mod ending;
mod expiring;
mod model;
mod pages;
mod renewal;
mod sequences;
mod service;
mod sweeping;
mod table;
mod time;
mod touching;
mod transfer;
mod trial;

/// How often a race is run unless [`Suite::rounds`] says otherwise.
pub const DEFAULT_ROUNDS: u32 = 2000;

/// A check that has not come to an end by then has failed.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// What a check makes of a store.
pub type Verdict<T = ()> = std::result::Result<T, Failure>;

/// What a store did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("the store failed: {error:?}"))
    }
}

/// How the suite wants a store to be set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// Where the store reads the time; the suite moves it.
    pub clock: Clock,
    /// How often the store sweeps by itself, in real time.
    pub sweep_interval: Duration,
    /// How long the store keeps the header of an ended session.
    pub keep_ended: Duration,
}

impl Setup {
    /// A clock that stands at some instant, and no sweeping while a check runs.
    fn new() -> Self {
        Self {
            clock: Clock::manual(trial::START),
            sweep_interval: Duration::from_secs(24 * 3600),
            keep_ended: DEFAULT_KEEP_ENDED,
        }
    }
}

type Reopen = Box<dyn Fn() -> Result<Arc<dyn SessionStore>> + Send + Sync>;

/// A store that was opened for the suite.
pub struct Opened {
    store: Arc<dyn SessionStore>,
    beside: Option<Reopen>,
    after_close: Option<Reopen>,
    keeps_shards: bool,
}

impl Opened {
    /// A store with one handle, whose sessions are gone when it is closed.
    pub fn new(store: impl SessionStore) -> Self {
        Self { store: Arc::new(store), beside: None, after_close: None, keeps_shards: false }
    }

    /// The same sessions can be opened again while `store` is open, with the same setup: as a
    /// second process would.
    #[must_use]
    pub fn beside<S: SessionStore>(
        mut self,
        open: impl Fn() -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        self.beside = Some(Box::new(move || Ok(Arc::new(open()?))));
        self
    }

    /// The same sessions can be opened again after `store` was closed, with the same setup.
    #[must_use]
    pub fn after_close<S: SessionStore>(
        mut self,
        open: impl Fn() -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        self.after_close = Some(Box::new(move || Ok(Arc::new(open()?))));
        self
    }

    /// Renews to IDs with the same shard bytes only, as every renewed token has them: what a
    /// store may insist on whose sessions are spread over machines.
    #[must_use]
    pub fn keeps_shards(mut self) -> Self {
        self.keeps_shards = true;
        self
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("beside", &self.beside.is_some())
            .field("after_close", &self.after_close.is_some())
            .finish_non_exhaustive()
    }
}

/// Makes fresh, empty stores. Any `Fn(&Setup) -> Result<Opened>` is one.
pub trait Factory: Send + Sync + 'static {
    /// A store without a session, independent of those opened before.
    fn open(&self, setup: &Setup) -> Result<Opened>;
}

impl<F: Fn(&Setup) -> Result<Opened> + Send + Sync + 'static> Factory for F {
    fn open(&self, setup: &Setup) -> Result<Opened> {
        self(setup)
    }
}

/// A factory, and how thoroughly its stores are to be checked. Cheap to clone.
#[derive(Clone)]
pub struct Suite {
    factory: Arc<dyn Factory>,
    rounds: u32,
}

impl Suite {
    /// Checks the stores of `factory`.
    pub fn new(factory: impl Factory) -> Self {
        Self { factory: Arc::new(factory), rounds: DEFAULT_ROUNDS }
    }

    /// Runs each race this often. Default: [`DEFAULT_ROUNDS`], right for a store in memory.
    #[must_use]
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds;
        self
    }

    /// Runs every check, one after the other.
    pub async fn run(&self) -> Report {
        let mut results = Vec::with_capacity(CHECKS.len());
        for check in CHECKS {
            results.push((check.name, check.run(self).await));
        }
        Report { results }
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

type Running = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// One thing that every store must do.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    name: &'static str,
    body: fn(Suite) -> Running,
}

/// Every check.
pub const CHECKS: &[Check] = table::CHECKS;

impl Check {
    /// The check called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        CHECKS.iter().find(|check| check.name == name)
    }

    /// Its name, which begins with the rule it holds.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it. A panic of the store is a failure too.
    pub async fn run(&self, suite: &Suite) -> Verdict {
        let runtime = tokio::runtime::Handle::current();
        let running = runtime.spawn((self.body)(suite.clone()));
        match tokio::time::timeout(TIME_LIMIT, running).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(panic)) => Err(Failure::new(format!("the store panicked: {panic}"))),
            Err(_) => Err(Failure::new("the store did not answer")),
        }
    }
}

/// What became of each check.
#[derive(Clone, Debug)]
pub struct Report {
    results: Vec<(&'static str, Verdict)>,
}

impl Report {
    /// Checks by name, in the order of [`CHECKS`].
    pub fn results(&self) -> &[(&'static str, Verdict)] {
        &self.results
    }

    /// Whether the store passed all of them.
    pub fn is_passed(&self) -> bool {
        self.results.iter().all(|(_, verdict)| verdict.is_ok())
    }
}

impl fmt::Display for Report {
    /// One line for each failure, and one with the counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut failed = 0;
        for (name, verdict) in &self.results {
            if let Err(failure) = verdict {
                failed += 1;
                writeln!(f, "{name}: {failure}")?;
            }
        }
        write!(f, "{} checks, {failed} failed", self.results.len())
    }
}
