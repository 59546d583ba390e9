//! Configuring and connecting a [`RedisStore`].

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};

use super::opening::Missing;
use super::{Handle, RedisStore, background};
use crate::error::{Error, Kind, Result};
use crate::expiry::Clock;
use crate::keyring::KeyRing;
use crate::store::DEFAULT_KEEP_ENDED;

const DEFAULT_WAIT: Duration = Duration::from_secs(5);
const DEFAULT_PREFIX: &str = "fastsession";
const MAX_PREFIX_BYTES: usize = 64;

/// Configures a [`RedisStore`]. `Debug` shows no password.
#[derive(Clone)]
#[must_use = "a builder connects to nothing until `connect` is called"]
pub struct RedisStoreBuilder {
    url: Box<str>,
    config: Config,
}

/// What a builder was told, but for the URL.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) prefix: Box<str>,
    pub(super) missing: Missing,
    pub(super) clock: Clock,
    pub(super) wait: Duration,
    pub(super) keep_ended: Duration,
    /// `None` leaves sweeping to others.
    pub(super) sweep_interval: Option<Duration>,
    /// The application's own keys.
    pub(super) key_ring: Option<KeyRing>,
}

impl RedisStoreBuilder {
    pub(super) fn new(url: &str) -> Self {
        let (_, query) = url.split_once('?').unwrap_or((url, ""));
        let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
        let config = Config {
            prefix: prefix.unwrap_or(DEFAULT_PREFIX).into(),
            missing: Missing::Create,
            clock: Clock::system(),
            wait: DEFAULT_WAIT,
            keep_ended: DEFAULT_KEEP_ENDED,
            sweep_interval: Some(Duration::from_secs(60)),
            key_ring: None,
        };
        Self { url: url.into(), config }
    }

    /// What the names of all keys begin with, so that several applications can share a server: at
    /// most 64 letters, digits and any of `-_.:`. Default: that of the URL (`?prefix=…`), else
    /// `fastsession`.
    pub fn prefix(mut self, prefix: impl Into<Box<str>>) -> Self {
        self.config.prefix = prefix.into();
        self
    }

    /// Fails with `is_not_found()` if there are no sessions and keys yet, instead of beginning.
    pub fn must_exist(mut self) -> Self {
        self.config.missing = Missing::Refuse;
        self
    }

    /// Fails with `is_invalid()` if there are sessions and keys already.
    pub fn create_new(mut self) -> Self {
        self.config.missing = Missing::MustCreate;
        self
    }

    /// Reads the time from `clock`. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.config.clock = clock;
        self
    }

    /// How long a call waits for the server. Default: 5 seconds.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.config.wait = wait;
        self
    }

    /// Keeps the header of an ended session for `keep`. Default: 24 hours.
    pub fn keep_ended(mut self, keep: Duration) -> Self {
        self.config.keep_ended = keep;
        self
    }

    /// Sweeps what is over this often. Default: every minute.
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.config.sweep_interval = Some(interval);
        self
    }

    /// Leaves sweeping to other processes, as a tool does.
    pub fn without_sweeping(mut self) -> Self {
        self.config.sweep_interval = None;
        self
    }

    /// Signs with the application's own keys instead of the store's. The store then says so, and
    /// the command-line tool leaves keys alone.
    pub fn key_ring(mut self, ring: KeyRing) -> Self {
        self.config.key_ring = Some(ring);
        self
    }

    /// Connects, and starts the store's thread.
    ///
    /// Blocks for at most [`wait`](Self::wait), or a little longer for a cluster. Fails with
    /// `is_unavailable()` if the server cannot be reached or is a read-only replica,
    /// `is_forbidden()` if it refuses user and password, `is_invalid()` for a URL or prefix that
    /// cannot be used, `is_version_mismatch()`. No message repeats the URL.
    pub fn connect(self) -> Result<RedisStore> {
        let info = self.server()?;
        self.check_prefix()?;
        let (connected, connecting) = mpsc::sync_channel(1);
        let config = self.config;
        let wait = config.wait;
        std::thread::Builder::new()
            .name("fastsession-redis".into())
            .spawn(move || background::run(info, config, &connected))
            .map_err(|error| {
                Error::unavailable("the store's thread cannot be started").with_source(error)
            })?;
        // Twice: the first talk, then with all of a cluster.
        match connecting.recv_timeout(wait * 3) {
            Ok(Ok(shared)) => {
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    shared.link.prepare(&runtime);
                }
                Ok(RedisStore { _handle: Arc::new(Handle(shared.clone())), shared })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::unavailable(format!("the server did not answer in {wait:?}"))),
        }
    }

    fn server(&self) -> Result<ConnectionInfo> {
        let info = (&*self.url).into_connection_info().map_err(|_| {
            let why = if self.url.starts_with("rediss://") && !cfg!(feature = "redis-tls") {
                "`rediss://` needs the feature `redis-tls`"
            } else {
                "not the URL of a server: redis://[user:password@]host[:port][/number][?prefix=name]"
            };
            Error::new(Kind::Invalid, why)
        })?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            let why = "a connection whose certificate is not verified is as good as none";
            return Err(Error::new(Kind::Invalid, why));
        }
        #[cfg(feature = "redis-tls")]
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            use_some_cryptography();
        }
        Ok(info.set_tcp_settings(self.tcp_settings()))
    }

    fn tcp_settings(&self) -> TcpSettings {
        // What is small is sent at once.
        let settings = TcpSettings::default().set_nodelay(true);
        // A machine that is gone without a word is given up like one that says so.
        #[cfg(target_os = "linux")]
        let settings = settings.set_user_timeout(self.config.wait);
        settings
    }

    fn check_prefix(&self) -> Result<()> {
        let prefix = &self.config.prefix;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if prefix.is_empty() || prefix.len() > MAX_PREFIX_BYTES || !prefix.chars().all(plain) {
            let why = "a prefix has 1 to 64 letters, digits and any of `-_.:`";
            return Err(Error::new(Kind::Invalid, why));
        }
        Ok(())
    }
}

/// The client takes the process' default, and panics if there is none that it can tell. An
/// application that has chosen one keeps it.
#[cfg(feature = "redis-tls")]
fn use_some_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been faster: then theirs is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server().map(|info| info.addr().to_string());
        f.debug_struct("RedisStoreBuilder")
            .field("server", &server.unwrap_or_else(|_| "(unusable)".into()))
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
