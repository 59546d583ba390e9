//! What a layer has counted since it was made.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::expiry::Timestamp;
use crate::meter;
use crate::origin::Origin;

/// How many lines a layer logs in one second about cookies that open nothing.
const LINES_PER_SECOND: u32 = 10;

/// Counts of one layer: where its requests' sessions came from, and what it dropped.
///
/// Counted from the layer's making on, by this process. Requests whose handler never looked at the
/// session are in none of them, nor are those that only inserted into it and came to an error.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use fastsession::{MemoryStore, Origin, SessionLayer};
///
/// let layer = SessionLayer::new(MemoryStore::new()?);
/// let counters = layer.counters();
/// // … `.layer(layer)`, and in a route for the monitoring:
/// assert_eq!(counters.concluded(Origin::BadSignature), 0);
/// # }
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Counters {
    concluded: [AtomicU64; Origin::COUNT],
    dropped: AtomicU64,
}

impl Counters {
    /// How many requests' sessions were of this origin.
    pub fn concluded(&self, origin: Origin) -> u64 {
        self.concluded[origin as usize].load(Ordering::Relaxed)
    }

    /// How many requests' changes were dropped, because the session had ended or been renewed
    /// before they could be committed and nobody had asked for them explicitly.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, origin: Origin) {
        self.concluded[origin as usize].fetch_add(1, Ordering::Relaxed);
        meter::concluded(origin);
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        meter::dropped();
    }
}

/// Bounds what anybody can make a layer log by sending cookies.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<Window>);

/// One second, and what was logged in it.
#[derive(Debug)]
struct Window {
    second: i64,
    lines: u32,
    /// Lines left out since the last one that was not.
    left_out: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { second: i64::MIN, lines: 0, left_out: 0 }
    }
}

impl LogLimit {
    /// Whether a line may be logged at `at`, and how many were left out before it.
    pub(crate) fn admit(&self, at: Timestamp) -> Option<u64> {
        let mut window = self.0.lock();
        if window.second != at.as_secs() {
            window.second = at.as_secs();
            window.lines = 0;
        }
        if window.lines == LINES_PER_SECOND {
            window.left_out = window.left_out.saturating_add(1);
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}
