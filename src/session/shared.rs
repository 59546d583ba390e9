//! What all sessions of one layer share.

use std::sync::Arc;
#[cfg(feature = "axum")]
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;

use super::counters::{Counters, LogLimit};
use super::state::Live;
use crate::cookie::CookieOptions;
use crate::error::{Error, Kind, Result};
use crate::expiry::{Clock, Timeouts, Timestamp};
#[cfg(feature = "axum")]
use crate::header::HeaderOptions;
use crate::id::SessionId;
use crate::keyring::{KeyRing, Scope};
use crate::record::Record;
use crate::store::{
    Access, Answer, Commit, DEFAULT_MAX_DATA_BYTES, Freshness, Loaded, Op, Outcome, SessionCap,
    SessionStore,
};
use crate::watch;

/// How long a request that carries the token of a renewed or destroyed session is taken for one
/// running beside the renewal.
const GRACE: Duration = Duration::from_secs(60);

/// How often unknown key IDs may cause the ring to be read anew.
const REREAD_INTERVAL: Duration = Duration::from_millis(100);

/// How a layer was configured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cookie: CookieOptions,
    /// The token is in this header, and in no cookie.
    #[cfg(feature = "axum")]
    pub(crate) header: Option<HeaderOptions>,
    pub(crate) scope: Scope,
    /// `None` where no layer is: the record's own.
    pub(crate) timeouts: Option<Timeouts>,
    /// `None`: derived from the timeouts.
    pub(crate) touch_interval: Option<Duration>,
    pub(crate) realm: Option<&'static str>,
    pub(crate) create_always: bool,
    pub(crate) cap: Option<SessionCap>,
    pub(crate) max_data_bytes: usize,
    pub(crate) grace: Duration,
}

impl Settings {
    /// The defaults for sessions of `realm`, with their records' own timeouts.
    pub(crate) fn new(realm: Option<&'static str>) -> Self {
        let cookie = CookieOptions::default();
        Self {
            scope: Scope::cookie(cookie.name()),
            cookie,
            #[cfg(feature = "axum")]
            header: None,
            timeouts: None,
            touch_interval: None,
            realm,
            create_always: false,
            cap: None,
            max_data_bytes: DEFAULT_MAX_DATA_BYTES,
            grace: GRACE,
        }
    }

    fn touch_interval(&self) -> Duration {
        self.touch_interval
            .unwrap_or_else(|| self.timeouts.unwrap_or_default().default_touch_interval())
    }
}

/// Settings and store of one layer.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) store: Arc<dyn SessionStore>,
    /// The store's.
    pub(crate) clock: Clock,
    /// As the settings have it: every request needs it.
    touch_interval: Duration,
    pub(crate) counters: Arc<Counters>,
    /// Whether the warning about a Secure cookie over plain HTTP was given.
    #[cfg(feature = "axum")]
    pub(crate) warned: Arc<AtomicBool>,
    pub(super) log_limit: LogLimit,
    rereads: tokio::sync::Mutex<Option<Reread>>,
}

struct Reread {
    began: Instant,
    /// A failure is shared, too: whoever waited for it does not wait for another one.
    ring: Result<KeyRing>,
}

/// Another layer of the same settings and store.
impl Clone for Shared {
    fn clone(&self) -> Self {
        Self {
            counters: Arc::clone(&self.counters),
            #[cfg(feature = "axum")]
            warned: Arc::clone(&self.warned),
            ..Self::new(self.settings.clone(), Arc::clone(&self.store))
        }
    }
}

impl Shared {
    pub(crate) fn new(settings: Settings, store: Arc<dyn SessionStore>) -> Self {
        let rereads = tokio::sync::Mutex::const_new(None);
        Self {
            touch_interval: settings.touch_interval(),
            settings,
            clock: store.clock(),
            store,
            counters: Arc::default(),
            #[cfg(feature = "axum")]
            warned: Arc::default(),
            log_limit: LogLimit::default(),
            rereads,
        }
    }

    /// Changes the settings.
    #[cfg(feature = "axum")]
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.touch_interval = self.settings.touch_interval();
    }

    pub(crate) fn access(&self) -> Access {
        self.access_at(self.clock.now())
    }

    #[inline]
    pub(super) fn access_at(&self, at: Timestamp) -> Access {
        Access { at, timeouts: self.settings.timeouts, touch_interval: self.touch_interval }
    }

    pub(crate) async fn load(&self, id: &SessionId) -> Result<Loaded> {
        watch::loading(self.store.load(id, &self.access()), id).await
    }

    /// Whether the session lives in a state of the store no older than this call; a load may
    /// confirm what another process ended a moment ago.
    #[cfg(feature = "axum")]
    pub(crate) async fn is_live_now(&self, id: &SessionId) -> Result<bool> {
        let Some(found) = self.store.inspect(id).await? else { return Ok(false) };
        let Access { at, timeouts, .. } = self.access();
        Ok(found.record.absence(at, timeouts.as_ref(), &found.endings).is_none())
    }

    pub(crate) async fn commit(&self, id: SessionId, op: Op) -> Result<Outcome> {
        self.ask(id, op).await
    }

    /// Hands a commit to the store; the answer may be awaited later.
    pub(crate) fn ask(&self, id: SessionId, op: Op) -> Answer<Outcome> {
        self.ask_at(self.clock.now(), id, op)
    }

    #[inline]
    pub(super) fn ask_at(&self, at: Timestamp, id: SessionId, op: Op) -> Answer<Outcome> {
        let (access, max_data_bytes) = (self.access_at(at), self.settings.max_data_bytes);
        watch::commit(&*self.store, Commit { id, access, max_data_bytes, op })
    }

    /// A session's own idle timeout may be far shorter than the layer's: whoever is active is to
    /// be recorded before it has passed.
    fn touch_interval_of(&self, record: &Record) -> Duration {
        let configured = self.settings.timeouts.filter(|_| !record.is_remembered());
        let own = record.idle_timeout();
        let idle = configured.map_or(own, |timeouts| own.min(timeouts.idle));
        // Divisors that are constants cost no division.
        let share = if self.settings.touch_interval.is_some() { idle / 2 } else { idle / 20 };
        self.touch_interval.min(share)
    }

    /// Records activity at `at`, unless some was recorded within the touch interval.
    pub(crate) fn touch(&self, live: &Live, at: Timestamp) -> Option<Record> {
        let unrecorded = at.saturating_since(live.record.last_seen_at());
        // What was committed a moment ago needs no look at the interval.
        if unrecorded.is_zero() || unrecorded < self.touch_interval_of(&live.record) {
            return None;
        }
        self.store.touch(&live.id, &self.access_at(at));
        Some(live.record.touched(at))
    }

    pub(crate) async fn keys(&self) -> Result<KeyRing> {
        self.store.keys(Freshness::Recent).await
    }

    /// A ring read after this call began: shared by all who wait, and at most ten times a second,
    /// so that cookies with invented key IDs cost their sender time and the store nothing.
    pub(crate) async fn reread_keys(&self) -> Result<KeyRing> {
        let asked = Instant::now();
        let mut last = self.rereads.lock().await;
        if let Some(last) = &*last {
            if last.began > asked {
                return last.ring.clone();
            }
            tokio::time::sleep_until(last.began + REREAD_INTERVAL).await;
        }
        let began = Instant::now();
        let ring = self.store.keys(Freshness::Current).await;
        *last = Some(Reread { began, ring: ring.clone() });
        ring
    }
}

/// The store answered what the contract rules out for this operation.
pub(crate) fn broken_contract() -> Error {
    Error::new(Kind::Unknown, "the session store gave an answer that its contract rules out")
}
