//! The longest timeouts any session came with. Every commit compares its own with them, and almost
//! none is longer: no lock, so that threads do not take turns for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::store::Timing;

#[derive(Default)]
pub(super) struct Longest {
    idle: Nanoseconds,
    touch_interval: Nanoseconds,
}

#[derive(Default)]
struct Nanoseconds(AtomicU64);

impl Nanoseconds {
    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn widen(&self, to: Duration) {
        // Five centuries are longer than any timeout that is stored.
        let to = u64::try_from(to.as_nanos()).unwrap_or(u64::MAX);
        if to > self.0.load(Ordering::Relaxed) {
            self.0.fetch_max(to, Ordering::Relaxed);
        }
    }
}

impl Longest {
    pub(super) fn widen(&self, timing: Timing) {
        self.idle.widen(timing.longest_idle);
        self.touch_interval.widen(timing.touch_interval);
    }

    pub(super) fn get(&self) -> Timing {
        Timing { longest_idle: self.idle.get(), touch_interval: self.touch_interval.get() }
    }
}
