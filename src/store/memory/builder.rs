//! Configuring and starting a [`MemoryStore`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::timing::Longest;
use super::{Inner, MemoryStore};
use crate::error::{Error, Result};
use crate::expiry::Clock;
use crate::keyring::KeyRing;
use crate::store::events::Hub;
use crate::store::{DEFAULT_KEEP_ENDED, Sweep};
use crate::watch;

const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Configures a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryStoreBuilder {
    clock: Clock,
    max_bytes: usize,
    keep_ended: Duration,
    sweep_interval: Duration,
    key_ring: Option<KeyRing>,
}

impl MemoryStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::system(),
            max_bytes: DEFAULT_MAX_BYTES,
            keep_ended: DEFAULT_KEEP_ENDED,
            sweep_interval: Duration::from_secs(60),
            key_ring: None,
        }
    }

    /// Reads the time from `clock`. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Holds at most about `bytes` of records and their index by deadline. Default: 256 MiB.
    ///
    /// The index by user comes on top, with some 480 bytes for each user who is signed in.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Keeps the header of an ended session for `keep`. Default: 24 hours.
    #[must_use]
    pub fn keep_ended(mut self, keep: Duration) -> Self {
        self.keep_ended = keep;
        self
    }

    /// Sweeps what is over this often. Default: every minute.
    #[must_use]
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval;
        self
    }

    /// Signs with the application's own keys. Default: a fresh key, which dies with the store.
    #[must_use]
    pub fn key_ring(mut self, ring: KeyRing) -> Self {
        self.key_ring = Some(ring);
        self
    }

    /// Makes the store and starts its sweeper.
    pub fn build(self) -> Result<MemoryStore> {
        let keys_held_by_application = self.key_ring.is_some();
        let keys = match self.key_ring {
            Some(ring) => ring,
            None => KeyRing::generate(self.clock.now())?,
        };
        let inner = Arc::new(Inner {
            clock: self.clock,
            max_bytes: self.max_bytes,
            keep_ended: self.keep_ended,
            shards: std::array::from_fn(|_| RwLock::default()),
            users: Mutex::default(),
            any_ending: AtomicBool::new(false),
            endings: RwLock::default(),
            bytes: AtomicUsize::new(0),
            spent: Mutex::default(),
            keys: RwLock::new(keys),
            keys_held_by_application,
            longest: Longest::default(),
            sweep_from: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            events: Hub::default(),
        });
        spawn_sweeper(&inner, self.sweep_interval)?;
        Ok(MemoryStore { inner })
    }
}

/// A thread, not a task: it needs no runtime, and ends by itself once the store is gone.
fn spawn_sweeper(inner: &Arc<Inner>, interval: Duration) -> Result<()> {
    let store = Arc::downgrade(inner);
    let sweeper = move || {
        loop {
            std::thread::sleep(interval);
            let Some(inner) = store.upgrade() else { return };
            let at = inner.clock.now();
            let step = || {
                let span = watch::sweep();
                let swept = span.in_scope(|| inner.sweep(Sweep { at, limit: 1000, purge: false }));
                span.record("removed", swept.removed);
                swept
            };
            while step().more {}
        }
    };
    std::thread::Builder::new()
        .name("fastsession-sweep".into())
        .spawn(sweeper)
        .map(drop)
        .map_err(|e| Error::unavailable("the sweeper thread cannot be started").with_source(e))
}
