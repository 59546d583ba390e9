//! Instants, timeouts and the clock.
//!
//! Every decision about time takes the instant as an argument; only [`Clock::now`] asks the
//! system. Arithmetic saturates: no stored instant and no step of the clock can panic.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// An instant: milliseconds since the Unix epoch, UTC.
///
/// Eight bytes with total order and saturating arithmetic, which [`SystemTime`] does not have.
/// It converts to and from `SystemTime`, and so to any time crate.
///
/// ```
/// use fastsession::Timestamp;
/// use std::time::{Duration, SystemTime};
///
/// let at = Timestamp::from_millis(1_700_000_000_000);
/// assert_eq!(at.saturating_add(Duration::from_secs(1)).as_millis(), 1_700_000_001_000);
/// assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH).as_millis(), 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest instant: a deadline that is never reached.
    pub const MAX: Self = Self(i64::MAX);
    /// The earliest instant.
    pub const MIN: Self = Self(i64::MIN);

    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The instant `duration` later, or [`Timestamp::MAX`].
    #[must_use]
    #[inline]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The instant `duration` earlier, or [`Timestamp::MIN`].
    #[must_use]
    #[inline]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time that has passed since `earlier`; zero if it is later.
    #[inline]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Without the 128 bits that `as_millis` takes: several of these are asked for in each request.
#[inline]
fn millis(duration: Duration) -> i64 {
    let secs = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    secs.saturating_mul(1000).saturating_add(i64::from(duration.subsec_millis()))
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({} ms)", self.0)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(before) => Self(millis(before.duration()).saturating_neg()),
        }
    }
}

impl From<Timestamp> for SystemTime {
    /// The epoch, if the platform's `SystemTime` cannot hold it.
    fn from(at: Timestamp) -> Self {
        let distance = Duration::from_millis(at.0.unsigned_abs());
        let shifted = if at.0 >= 0 {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        };
        shifted.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// How long a session lives: OWASP's idle and absolute timeout.
///
/// ```
/// use fastsession::Timeouts;
/// assert_eq!(Timeouts::default().idle.as_secs(), 24 * 3600);
/// assert_eq!(Timeouts::AAL3.idle.as_secs(), 15 * 60);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Ends a session this long after its last activity. Stored in whole seconds, rounded up.
    pub idle: Duration,
    /// Ends a session this long after it was created or logged in, whatever it did since.
    pub absolute: Duration,
}

impl Timeouts {
    /// NIST SP 800-63B-4, assurance level 1: 30 days; idle 30 days, too.
    pub const AAL1: Self = Self::new(days(30), days(30));
    /// NIST SP 800-63B-4, assurance level 2: 24 hours, idle 1 hour.
    pub const AAL2: Self = Self::new(hours(1), hours(24));
    /// NIST SP 800-63B-4, assurance level 3: 12 hours, idle 15 minutes.
    pub const AAL3: Self = Self::new(Duration::from_secs(15 * 60), hours(12));

    /// Timeouts of `idle` and `absolute`.
    pub const fn new(idle: Duration, absolute: Duration) -> Self {
        Self { idle, absolute }
    }

    /// How long activity may go unrecorded: a twentieth of the idle timeout, at most 5 minutes.
    pub fn default_touch_interval(&self) -> Duration {
        (self.idle / 20).min(Duration::from_secs(5 * 60))
    }
}

impl Default for Timeouts {
    /// 24 hours idle, 30 days absolute.
    fn default() -> Self {
        Self::new(hours(24), days(30))
    }
}

const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

const fn days(n: u64) -> Duration {
    hours(n * 24)
}

/// A request asks up to twice, and no deadline is finer than this clock: it costs 4 ns where the
/// precise one costs 38.
#[cfg(target_os = "linux")]
fn system_now() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    match Duration::try_from(now) {
        Ok(since_epoch) => Timestamp(millis(since_epoch)),
        // Before the epoch.
        Err(_) => SystemTime::now().into(),
    }
}

#[cfg(not(target_os = "linux"))]
fn system_now() -> Timestamp {
    SystemTime::now().into()
}

/// Where a store, and everything above it, reads the time.
///
/// The system's by default, on Linux as of its last tick: up to 10 ms ago, 4 on most kernels, and
/// the same for all processes. Whoever compares its instants with those of another source allows
/// for that. A test sets its own clock and moves it by hand; see [`testing`](crate::testing).
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `start` until [`Clock::advance`] or [`Clock::set`] moves it.
    /// Clones share the time.
    pub fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(start.as_millis()))))
    }

    /// The time it is.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => system_now(),
            Some(millis) => Timestamp(millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward. The system's stays as it is.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }

    /// Sets a manual clock, backwards too. The system's stays as it is.
    pub fn set(&self, at: Timestamp) {
        if let Some(millis) = &self.0 {
            millis.store(at.as_millis(), Ordering::SeqCst);
        }
    }
}
