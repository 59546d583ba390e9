//! Asking the server, again if need be, over a connection on the caller's runtime.
//!
//! Each tokio runtime that calls the store has a [`Lane`] of its own, and the store's thread has
//! one. A connection that another runtime drives costs a caller two wake-ups of another thread,
//! which on a nearby server take longer than its answer.
//!
//! Whatever is sent may be sent again after the connection broke: reads change nothing, and writes
//! compare first. [`Reply::in_doubt`] says that an earlier attempt may have been carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::{Cmd, ConnectionInfo, Value};
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::failure::Failed;
pub(super) use super::lane::closed;
use super::lane::{Lane, Target};
use super::scripts::Named;
use crate::error::{Error, Result};

/// Most requests on their way at a time.
const MAX_IN_FLIGHT: usize = 16 * 1024;

/// Arguments and bytes of most scripts' calls.
const FEW: usize = 12;
const LITTLE: usize = 1024;

/// Between two attempts to reach a node of a cluster.
const NODE_PAUSE: Duration = Duration::from_millis(50);

/// What was asked for, and whether an earlier attempt may have been carried out too.
pub(super) struct Reply {
    pub(super) value: Value,
    pub(super) in_doubt: bool,
}

/// Whether an answer that does not come leaves the outcome open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// The connections of one store.
pub(super) struct Link {
    target: Arc<Target>,
    lanes: Arc<Mutex<Lanes>>,
    room: Semaphore,
}

/// One connection for each runtime that has called.
#[derive(Default)]
struct Lanes {
    closed: bool,
    open: Vec<(runtime::Id, Arc<Lane>)>,
}

/// Removes a lane when the task that keeps it up is dropped, with its runtime at the latest. One
/// that panicked stays and says why: a runtime without I/O has no other way to tell.
struct Leave {
    lanes: Arc<Mutex<Lanes>>,
    lane: Arc<Lane>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = "the store is to be called in a tokio runtime with I/O enabled";
            return self.lane.give_up(Error::unavailable(why));
        }
        self.lane.close();
        self.lanes.lock().open.retain(|(_, lane)| !Arc::ptr_eq(lane, &self.lane));
    }
}

impl Link {
    pub(super) fn new(info: ConnectionInfo, wait: Duration) -> Self {
        Self {
            target: Arc::new(Target { info, cluster: AtomicBool::new(false), wait }),
            lanes: Arc::default(),
            room: Semaphore::new(MAX_IN_FLIGHT),
        }
    }

    /// How long a call may take from now on.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.target.wait
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.target.is_cluster()
    }

    /// Where the server is, without user and password.
    pub(super) fn address(&self) -> String {
        self.target.address()
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.target.info
    }

    /// The server is a node of a cluster: talks to all of it from the next connection on.
    pub(super) fn use_cluster(&self) {
        self.target.cluster.store(true, Ordering::Relaxed);
    }

    /// Connects for the first time, on the runtime that calls it.
    pub(super) async fn connect(&self) -> Result<()> {
        let wire = self.target.connect().await?;
        let handle = Handle::current();
        let lane = Arc::new(Lane::new(self.target.clone(), Some(wire)));
        let former = {
            let mut lanes = self.lanes.lock();
            std::mem::replace(&mut lanes.open, vec![(handle.id(), lane.clone())])
        };
        for (_, lane) in former {
            lane.close();
        }
        self.keep_up(&handle, lane);
        Ok(())
    }

    /// Begins to connect on a runtime that is going to call.
    pub(super) fn prepare(&self, handle: &Handle) {
        let _ = self.lane_of(handle);
    }

    /// The connection of the calling runtime.
    fn lane(&self) -> Result<Arc<Lane>> {
        let handle = Handle::try_current().map_err(|error| {
            Error::unavailable("the store is to be called in a tokio runtime").with_source(error)
        })?;
        self.lane_of(&handle)
    }

    fn lane_of(&self, handle: &Handle) -> Result<Arc<Lane>> {
        let here = handle.id();
        let new = {
            let mut lanes = self.lanes.lock();
            if lanes.closed {
                return Err(closed());
            }
            if let Some((_, lane)) = lanes.open.iter().find(|(id, _)| *id == here) {
                return Ok(lane.clone());
            }
            let lane = Arc::new(Lane::new(self.target.clone(), None));
            lanes.open.push((here, lane.clone()));
            lane
        };
        // Without the lock: a runtime that is shutting down drops the task at once.
        self.keep_up(handle, new.clone());
        Ok(new)
    }

    fn keep_up(&self, handle: &Handle, lane: Arc<Lane>) {
        let leave = Leave { lanes: self.lanes.clone(), lane };
        handle.spawn(async move { leave.lane.keep_up().await });
    }

    pub(super) fn close(&self) {
        let open = {
            let mut lanes = self.lanes.lock();
            lanes.closed = true;
            std::mem::take(&mut lanes.open)
        };
        for (_, lane) in open {
            lane.close();
        }
    }

    /// The current connections are of no more use.
    pub(super) fn drop_current(&self) {
        let open = self.lanes.lock().open.clone();
        for (_, lane) in open {
            lane.drop_current();
        }
    }

    /// Sends a command, again if need be, and waits for the answer.
    pub(super) async fn ask(&self, command: &Cmd, kind: Kind, until: Instant) -> Result<Reply> {
        self.attempts(kind, until, |_| command).await
    }

    /// Runs a script; the server is given its text if it has forgotten it.
    pub(super) async fn run(
        &self,
        script: &Named,
        kind: Kind,
        until: Instant,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Reply> {
        let with = |name: &str, script: &str| {
            let mut command = Cmd::with_capacity(FEW, LITTLE);
            command.arg(name).arg(script);
            arguments(&mut command);
            command
        };
        let by_hash = with("EVALSHA", script.hash());
        let by_text = std::sync::OnceLock::new();
        self.attempts(kind, until, |unknown| {
            if unknown { by_text.get_or_init(|| with("EVAL", script.code())) } else { &by_hash }
        })
        .await
    }

    async fn attempts<'a>(
        &self,
        kind: Kind,
        until: Instant,
        command: impl Fn(bool) -> &'a Cmd,
    ) -> Result<Reply> {
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Error::unavailable("the store has too much to do"));
        };
        let (mut in_doubt, mut failed, mut unknown_script) = (false, false, false);
        let settle = |error: Error, in_doubt: bool| {
            if in_doubt && kind == Kind::Write {
                Error::unknown_outcome("the connection to the store broke while it was at it")
                    .with_source(error)
            } else {
                error
            }
        };
        loop {
            if failed && Instant::now() >= until {
                let why = format!("no node that has it answers within {:?}", self.target.wait);
                return Err(settle(Error::unavailable(why), in_doubt));
            }
            let lane = self.lane().map_err(|error| settle(error, in_doubt))?;
            let (number, wire) = lane.up(until).await.map_err(|error| settle(error, in_doubt))?;
            let began = lane.now();
            let sent = tokio::time::timeout_at(until, wire.send(command(unknown_script))).await;
            let Ok(answer) = sent else {
                // In a cluster it may be one node of several, see below.
                if lane.is_silent_since(began) && !self.is_cluster() {
                    lane.report_lost(number);
                }
                let error = Error::unavailable(format!("no answer within {:?}", self.target.wait));
                return Err(settle(error, true));
            };
            lane.note_answer();
            match answer.map_err(|error| Failed::new(&error)) {
                Ok(value) => return Ok(Reply { value, in_doubt }),
                Err(Failed::UnknownScript) if !unknown_script => unknown_script = true,
                Err(Failed::UnknownScript) => {
                    let error = Error::unavailable("the server forgets scripts at once");
                    return Err(settle(error, in_doubt));
                }
                Err(Failed::Lost { not_sent }) => {
                    in_doubt |= !not_sent;
                    failed = true;
                    if self.is_cluster() {
                        // One node of several: the client finds it again, or who took over, and
                        // what the others have is served meanwhile.
                        tokio::time::sleep(NODE_PAUSE).await;
                    } else {
                        lane.report_lost(number);
                    }
                }
                Err(Failed::WrongServer(error)) => {
                    lane.report_lost(number);
                    return Err(settle(error, in_doubt));
                }
                Err(Failed::Refused(error)) => return Err(settle(error, in_doubt)),
            }
        }
    }
}
