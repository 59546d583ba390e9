//! What a layer has counted since it was made.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::meter;
use crate::origin::Origin;

/// Counts of one layer: where its requests' sessions came from, and what it dropped.
///
/// Counted from the layer's making on, by this process. Requests whose handler never looked at the
/// session are in none of them.
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
