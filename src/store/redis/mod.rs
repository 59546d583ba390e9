//! Sessions in Redis or Valkey, shared by machines.
//!
//! # Atomicity
//!
//! A commit is decided in this process by [`apply`](super::apply), as for every store, from rows
//! and endings read at one moment, and written by a script ([`plan`]) that first compares all of
//! them with what is there. Whatever has changed in between makes it decide anew. What this process
//! saw last of a session serves as a guess, so that most commits are one round trip; a guess is
//! never answered. Reads are one round trip each and lag behind nothing: the row and the
//! generations are read by one command.
//!
//! # What a read and a write cost
//!
//! | | round trips | bytes to the server, from it | on the server |
//! | --- | --- | --- | --- |
//! | read | 1 | 127, the row and 20 more | `MGET` of row and state |
//! | read of a user's session while an ending of theirs is being carried out | 2 | about 400, the row twice | the same, and a script that reads |
//! | commit of a session this process saw last | 1 | about 210 and the row, 4 | a script: `GETRANGE` of the stamp, `GET` of the state, `SET` |
//! | commit after somebody else wrote | 3: in vain, reading, again | twice the same, and the row | the script twice, and one that reads |
//! | create, sign in, renew, end | 1 to 2 | with an entry of each index | a script with an operation for each |
//! | touch | 2 for up to 64 sessions | 100 and 90 for each | off the request's path |
//!
//! A row is the record and 32 bytes: 100 to 150 with a few values. On one connection that is kept
//! full, Redis 7.0 spends 0.7 µs of its one thread on the read and 3.5 to 4 µs on the commit, of
//! which calling any script at all is 1.5; a bare `SET` of the same bytes, which compares nothing,
//! takes 1.1. In a cluster a commit also reads and writes a key that remembers it, because the
//! client may send it twice.
//!
//! A caller waits for the server and for nobody else: the connection is driven by the caller's own
//! runtime ([`link`]). Many calls at a time go out in one write and come back in one read.
//!
//! # Events
//!
//! What creates, renews or ends a session is published, when it is done, on a channel that the
//! other processes' stores listen to while somebody there listens to them ([`told`]). It costs the
//! caller nothing, and changes of data publish nothing. In a cluster the channel is heard through
//! the node that the URL names.
//!
//! # Time
//!
//! Deadlines are compared with the instant in the request, never with the server's clock. The
//! server's own time to live is a net under it: a row goes by itself a day after sweeping should
//! have removed it.
//!
//! # Cluster
//!
//! Sessions are spread over 64 partitions by the shard bytes of their IDs ([`layout`]), each in a
//! slot of its own with its indexes and with a copy of all endings, so that a commit compares them
//! where it writes. What concerns one session is as atomic as on one node. What concerns several is
//! weaker in these points:
//!
//! - An ending of a user's or everyone's sessions is one small write in each partition. Once
//!   answered it holds in all; beside it, a login may come before it in one partition and another
//!   after it in the next. If it fails half-way the outcome is unknown, and it is to be called
//!   again.
//! - A cap counts sessions under a lock with a lease of twice the deadline: a process that stands
//!   still for longer in the middle of a login can let the user have one session more.
//! - While the node that holds the signing keys cannot be reached, the others' sessions go on with
//!   the keys as they were, for up to 30 seconds.
//! - A page of one user's sessions is as of several moments, one for each partition.
//!
//! # What the server loses
//!
//! An answered commit is as durable as the server is: with `appendfsync everysec` a power cut loses
//! the last second, and a failover to a replica loses what it had not received, logouts too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::builder::Config;
use self::commit::Turns;
use self::layout::{Keys, Partition};
use self::link::Link;
use self::recent::Recent;
use self::told::Told;
use self::touches::Touches;
use super::{
    Access, Answer, Commit, End, EndReport, Events, Freshness, Import, Imported, Inspected,
    KeyChange, Loaded, Outcome, Page, Query, Records, Remove, SessionStore, Stats, Sweep, Swept,
    Timing,
};
use crate::error::{Error, Result};
use crate::expiry::Clock;
use crate::id::SessionId;
use crate::keyring::KeyRing;

mod background;
mod builder;
mod capped;
mod commit;
mod ending;
mod failure;
mod lane;
mod layout;
mod link;
mod opening;
mod plan;
mod recent;
mod replace;
mod ring;
mod scan;
mod scripts;
mod sweep;
mod timing;
mod told;
mod touches;
mod transfer;
mod view;

pub use self::builder::RedisStoreBuilder;

/// A store in Redis (7.0 or newer) or Valkey, on one node or a cluster. Cheap to clone; clones
/// share the connections.
///
/// Its methods are to be awaited in a tokio runtime with I/O and time enabled. Each runtime that
/// calls it gets a connection of its own, and the store's thread has one for what nobody waits for.
/// Dropping the last clone flushes touches and closes the connections;
/// [`close`](SessionStore::close) waits for it.
///
/// ```no_run
/// use fastsession::RedisStore;
/// let store = RedisStore::connect("redis://127.0.0.1/")?;
/// # let _ = store;
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
    /// Ends the thread when the last clone is dropped; its tasks hold `shared` themselves.
    _handle: Arc<Handle>,
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.close_called.notify_one();
    }
}

/// What the handles and tasks of one store share.
struct Shared {
    link: Arc<Link>,
    keys: Keys,
    config: Config,
    runtime: tokio::runtime::Handle,
    recent: Recent,
    turns: Turns,
    login_turns: Turns,
    touches: Touches,
    told: Told,
    timing: Mutex<Timing>,
    ring: Mutex<Option<ring::Known>>,
    closed: AtomicBool,
    close_called: Notify,
    close_waiter: Mutex<Option<oneshot::Sender<Result<()>>>>,
}

impl Shared {
    fn new(link: Arc<Link>, keys: Keys, config: Config, runtime: tokio::runtime::Handle) -> Self {
        Self {
            link,
            keys,
            config,
            runtime,
            recent: Recent::new(),
            turns: Turns::new(),
            login_turns: Turns::new(),
            touches: Touches::default(),
            told: Told::new(),
            timing: Mutex::default(),
            ring: Mutex::default(),
            closed: AtomicBool::new(false),
            close_called: Notify::new(),
            close_waiter: Mutex::default(),
        }
    }

    fn remember_state(&self, partition: Partition, sealed: &[u8]) {
        self.recent.put_state(partition, sealed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl RedisStore {
    /// Connects to the server at `url` with the defaults, and begins with a fresh key where there
    /// are no sessions yet: `redis://[user:password@]host[:port][/number]`, or `rediss://` for TLS
    /// (feature `redis-tls`). A server that is part of a cluster leads to all of it.
    ///
    /// Blocks for at most about 5 seconds. For errors see [`RedisStoreBuilder::connect`].
    pub fn connect(url: &str) -> Result<Self> {
        Self::builder(url).connect()
    }

    /// Configures how to connect to the server at `url`.
    pub fn builder(url: &str) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url)
    }

    fn answer<T, F>(&self, ask: impl FnOnce(Arc<Shared>, Instant) -> F) -> Answer<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if self.shared.is_closed() {
            return Answer::ready(Err(link::closed()));
        }
        Answer::pending(ask(self.shared.clone(), self.shared.link.until()))
    }
}

impl SessionStore for RedisStore {
    fn clock(&self) -> Clock {
        self.shared.config.clock.clone()
    }

    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        let (id, access) = (*id, *access);
        self.answer(|shared, until| async move { shared.load(&id, &access, until).await })
    }

    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        self.answer(|shared, until| async move { shared.commit(&commit, until).await })
    }

    fn touch(&self, id: &SessionId, access: &Access) {
        if !self.shared.is_closed() {
            self.shared.touches.add(id, access);
        }
    }

    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        let id = *id;
        self.answer(|shared, until| async move {
            let (row, endings) = shared.row(&id, until).await?;
            Ok(row.map(|row| Inspected { record: row.record, endings }))
        })
    }

    fn page(&self, query: &Query) -> Answer<Page> {
        let query = query.clone();
        self.answer(|shared, until| async move { shared.page(&query, until).await })
    }

    fn end(&self, end: End) -> Answer<EndReport> {
        self.answer(|shared, until| async move { shared.end(end, until).await })
    }

    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        self.answer(|shared, until| async move { shared.sweep(&sweep, until).await })
    }

    fn remove(&self, remove: Remove) -> Answer<Swept> {
        self.answer(|shared, until| async move { shared.remove_some(&remove, until).await })
    }

    fn records(&self, query: &Query) -> Answer<Records> {
        let query = query.clone();
        self.answer(|shared, until| async move { shared.records(&query, until).await })
    }

    fn import(&self, import: Import) -> Answer<Imported> {
        self.answer(|shared, until| async move { shared.import(import, until).await })
    }

    fn stats(&self) -> Answer<Stats> {
        self.answer(|shared, until| async move { shared.stats(until).await })
    }

    fn timing(&self) -> Answer<Timing> {
        self.answer(|shared, until| async move { shared.timing(until).await })
    }

    fn keys(&self, freshness: Freshness) -> Answer<KeyRing> {
        if self.shared.is_closed() {
            return Answer::ready(Err(link::closed()));
        }
        if let Some(own) = &self.shared.config.key_ring {
            return Answer::ready(Ok(own.clone()));
        }
        if freshness == Freshness::Recent
            && let Some(known) = self.shared.recent_ring()
        {
            return Answer::ready(known);
        }
        self.answer(move |shared, until| async move {
            match freshness {
                Freshness::Recent => shared.ring(until).await,
                Freshness::Current => shared.read_ring(until).await,
            }
        })
    }

    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        if self.shared.config.key_ring.is_some() {
            return Answer::ready(Err(ring::keys_held_by_application()));
        }
        self.answer(|shared, until| async move { shared.change_keys(change, until).await })
    }

    fn events(&self) -> Option<Events> {
        Some(self.shared.subscribe())
    }

    fn close(&self) -> Answer<()> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return Answer::ready(Ok(()));
        }
        let (sender, receiver) = oneshot::channel();
        *self.shared.close_waiter.lock() = Some(sender);
        self.shared.close_called.notify_one();
        let wait = self.shared.config.wait;
        Answer::pending(async move {
            match tokio::time::timeout(wait, receiver).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Ok(()),
                Err(_) => Err(Error::unavailable(format!("the store did not close in {wait:?}"))),
            }
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.shared.link.address())
            .field("cluster", &self.shared.link.is_cluster())
            .field("prefix", &self.shared.config.prefix)
            .finish_non_exhaustive()
    }
}
