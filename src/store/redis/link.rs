//! The connection, kept up on a thread of the store's own.
//!
//! All input and output is driven there, whatever runtime a caller has; a caller waits for its
//! answer with a deadline. A connection that breaks is made again with growing pauses. While that
//! goes on, what is asked waits for the first attempt, and once one has failed is refused at once.
//!
//! Whatever is sent may be sent again after the connection broke: reads change nothing, and writes
//! compare first. [`Reply::in_doubt`] says that an earlier attempt may have been carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, RedisResult, Value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::failure::{self, Failed};
use super::scripts::Named;
use crate::error::{Error, Result};

/// Most requests on their way at a time.
const MAX_IN_FLIGHT: usize = 16 * 1024;
/// Between two attempts to connect, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A node of a cluster that does not answer for so long is taken for lost.
const CLUSTER_CONNECT: Duration = Duration::from_secs(2);

/// What carries commands to the server.
#[derive(Clone)]
enum Wire {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// How the connection stands.
#[derive(Clone)]
enum Line {
    Up {
        number: u64,
        wire: Wire,
    },
    /// Lost a moment ago, or not made yet.
    Connecting,
    /// Making it again failed at least once.
    Down(Error),
    Closed,
}

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

/// The connection of one store.
pub(super) struct Link {
    info: ConnectionInfo,
    cluster: AtomicBool,
    wait: Duration,
    line: watch::Sender<Line>,
    lost: Notify,
    room: Semaphore,
    began: Instant,
    /// Milliseconds since `began` at which anything was answered last.
    answered: AtomicU64,
}

impl Link {
    pub(super) fn new(info: ConnectionInfo, wait: Duration) -> Self {
        Self {
            info,
            cluster: AtomicBool::new(false),
            wait,
            line: watch::Sender::new(Line::Connecting),
            lost: Notify::new(),
            room: Semaphore::new(MAX_IN_FLIGHT),
            began: Instant::now(),
            answered: AtomicU64::new(0),
        }
    }

    /// How long a call may take from now on.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.wait
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.cluster.load(Ordering::Relaxed)
    }

    /// The server is a node of a cluster: talks to all of it from the next connection on.
    pub(super) fn use_cluster(&self) {
        self.cluster.store(true, Ordering::Relaxed);
    }

    /// Connects for the first time.
    pub(super) async fn connect(&self, number: u64) -> Result<()> {
        let wire = match tokio::time::timeout(self.wait, self.wire()).await {
            Ok(wire) => wire.map_err(|error| failure::connecting(&error, &self.address()))?,
            Err(_) => {
                let (wait, address) = (self.wait, self.address());
                let message = format!("{address} did not answer within {wait:?}");
                return Err(Error::unavailable(message));
            }
        };
        self.line.send_replace(Line::Up { number, wire });
        Ok(())
    }

    async fn wire(&self) -> RedisResult<Wire> {
        if self.is_cluster() {
            let client = ClusterClientBuilder::new([self.info.clone()])
                .connection_timeout(CLUSTER_CONNECT.min(self.wait))
                .response_timeout(self.wait)
                .retry_wait_formula(2, 2)
                .min_retry_wait(20)
                .max_retry_wait(500)
                .build()?;
            return client.get_async_connection().await.map(Wire::Cluster);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.wait))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        let client = Client::open(self.info.clone())?;
        client.get_multiplexed_async_connection_with_config(&config).await.map(Wire::Node)
    }

    /// Where the server is, without user and password.
    pub(super) fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// Makes the connection again whenever it is lost. Ends when the link is closed.
    pub(super) async fn keep_up(self: Arc<Self>) {
        let mut number = 1;
        loop {
            self.lost.notified().await;
            let mut pause = FIRST_PAUSE;
            while matches!(*self.line.borrow(), Line::Connecting | Line::Down(_)) {
                number += 1;
                match self.connect(number).await {
                    Ok(()) => tracing::info!(address = self.address(), "connected again"),
                    Err(error) => {
                        tracing::warn!(%error, "the session store cannot be reached");
                        self.line.send_if_modified(|line| {
                            let open = !matches!(line, Line::Closed);
                            if open {
                                *line = Line::Down(error.clone());
                            }
                            open
                        });
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
            if matches!(*self.line.borrow(), Line::Closed) {
                return;
            }
        }
    }

    pub(super) fn close(&self) {
        self.line.send_replace(Line::Closed);
        self.lost.notify_one();
    }

    /// Says that the connection of this number is of no more use.
    fn report_lost(&self, number: u64) {
        let lost = self.line.send_if_modified(|line| {
            let current = matches!(line, Line::Up { number: current, .. } if *current == number);
            if current {
                *line = Line::Connecting;
            }
            current
        });
        if lost {
            tracing::warn!(address = self.address(), "the connection to the session store broke");
            self.lost.notify_one();
        }
    }

    /// The current connection is of no more use.
    pub(super) fn drop_current(&self) {
        let number = match &*self.line.borrow() {
            Line::Up { number, .. } => *number,
            _ => return,
        };
        self.report_lost(number);
    }

    /// The connection, once it is there.
    async fn up(&self, until: Instant) -> Result<(u64, Wire)> {
        let mut line = self.line.subscribe();
        loop {
            match &*line.borrow_and_update() {
                Line::Up { number, wire } => return Ok((*number, wire.clone())),
                Line::Down(error) => return Err(error.clone()),
                Line::Closed => return Err(closed()),
                Line::Connecting => {}
            }
            match tokio::time::timeout_at(until, line.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(closed()),
                Err(_) => {
                    return Err(Error::unavailable(format!(
                        "{} cannot be reached within {:?}",
                        self.address(),
                        self.wait
                    )));
                }
            }
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
            let mut command = ::redis::cmd(name);
            command.arg(script);
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
        let (mut in_doubt, mut unknown_script) = (false, false);
        let settle = |error: Error, in_doubt: bool| {
            if in_doubt && kind == Kind::Write {
                Error::unknown_outcome("the connection to the store broke while it was at it")
                    .with_source(error)
            } else {
                error
            }
        };
        loop {
            let (number, wire) = self.up(until).await.map_err(|error| settle(error, in_doubt))?;
            let began = self.now();
            let sent = tokio::time::timeout_at(until, wire.send(command(unknown_script))).await;
            let Ok(answer) = sent else {
                // Not a word since then: it may be gone without having said so.
                if self.answered.load(Ordering::Relaxed) < began {
                    self.report_lost(number);
                }
                let error = Error::unavailable(format!("no answer within {:?}", self.wait));
                return Err(settle(error, true));
            };
            self.answered.store(self.now(), Ordering::Relaxed);
            match answer.map_err(|error| Failed::new(&error)) {
                Ok(value) => return Ok(Reply { value, in_doubt }),
                Err(Failed::UnknownScript) if !unknown_script => unknown_script = true,
                Err(Failed::UnknownScript) => {
                    let error = Error::unavailable("the server forgets scripts at once");
                    return Err(settle(error, in_doubt));
                }
                Err(Failed::Lost { not_sent }) => {
                    in_doubt |= !not_sent;
                    self.report_lost(number);
                }
                Err(Failed::WrongServer(error)) => {
                    self.report_lost(number);
                    return Err(settle(error, in_doubt));
                }
                Err(Failed::Refused(error)) => return Err(settle(error, in_doubt)),
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Wire {
    async fn send(mut self, command: &Cmd) -> RedisResult<Value> {
        match &mut self {
            Self::Node(node) => node.req_packed_command(command).await?,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await?,
        }
        .extract_error()
    }
}

pub(super) fn closed() -> Error {
    Error::unavailable("the store was closed")
}
