//! One connection to the server, kept up on the runtime that uses it.
//!
//! A connection that breaks is made again with growing pauses. While that goes on, what is asked
//! waits for the first attempt, and once one has failed is refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::failure;
use super::opening::Server;
use crate::error::{Error, Result};

/// Between two attempts to connect, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A node of a cluster that does not answer for so long is taken for lost.
const CLUSTER_CONNECT: Duration = Duration::from_secs(2);

/// Commands that are ready at one time go out in one write of up to so many bytes. The client's own
/// bound, 8 KiB, is a dozen commits: more system calls, here and on the server.
const WRITTEN_AT_ONCE: usize = 256 * 1024;

/// Where to connect to, and how long that may take.
pub(super) struct Target {
    pub(super) info: ConnectionInfo,
    pub(super) cluster: AtomicBool,
    pub(super) wait: Duration,
}

/// What carries commands to the server.
#[derive(Clone)]
pub(super) enum Wire {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Wire {
    pub(super) async fn send(mut self, command: &Cmd) -> RedisResult<Value> {
        match &mut self {
            Self::Node(node) => node.send_packed_command(command).await?,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await?,
        }
        .extract_error()
    }
}

impl Target {
    pub(super) fn is_cluster(&self) -> bool {
        self.cluster.load(Ordering::Relaxed)
    }

    /// Where the server is, without user and password.
    pub(super) fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// Connects, on the runtime that calls it.
    pub(super) async fn connect(&self) -> Result<Wire> {
        let wire = match tokio::time::timeout(self.wait, self.wire()).await {
            Ok(wire) => wire.map_err(|error| failure::connecting(&error, &self.address()))?,
            Err(_) => {
                let (wait, address) = (self.wait, self.address());
                let message = format!("{address} did not answer within {wait:?}");
                return Err(Error::unavailable(message));
            }
        };
        if let Wire::Node(_) = &wire {
            // A replica that was a primary would answer reads with what it knew.
            Server::ask(wire.clone(), self).await?.check()?;
        }
        Ok(wire)
    }

    async fn wire(&self) -> RedisResult<Wire> {
        if self.is_cluster() {
            let client = ClusterClientBuilder::new([self.info.clone()])
                .tcp_settings(self.info.tcp_settings().clone())
                .connection_timeout(CLUSTER_CONNECT.min(self.wait))
                .response_timeout(self.wait)
                .retry_wait_formula(2, 2)
                .min_retry_wait(20)
                .max_retry_wait(500)
                .write_backpressure_boundary(WRITTEN_AT_ONCE)
                .build()?;
            return client.get_async_connection().await.map(Wire::Cluster);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(WRITTEN_AT_ONCE);
        let client = Client::open(self.info.clone())?;
        client.get_multiplexed_async_connection_with_config(&config).await.map(Wire::Node)
    }
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

/// One connection.
pub(super) struct Lane {
    target: Arc<Target>,
    line: watch::Sender<Line>,
    lost: Notify,
    began: Instant,
    /// Milliseconds since `began` at which anything was answered last.
    answered: AtomicU64,
}

impl Lane {
    /// One that is made by [`Lane::keep_up`], unless it is there.
    pub(super) fn new(target: Arc<Target>, wire: Option<Wire>) -> Self {
        let line = wire.map_or(Line::Connecting, |wire| Line::Up { number: 0, wire });
        Self {
            target,
            line: watch::Sender::new(line),
            lost: Notify::new(),
            began: Instant::now(),
            answered: AtomicU64::new(0),
        }
    }

    /// Makes the connection, and again whenever it is lost. Ends when it is closed.
    pub(super) async fn keep_up(&self) {
        let mut number = 0;
        loop {
            let mut pause = FIRST_PAUSE;
            while matches!(*self.line.borrow(), Line::Connecting | Line::Down(_)) {
                number += 1;
                match self.target.connect().await {
                    Ok(wire) => {
                        self.replace(Line::Up { number, wire });
                        if number > 1 {
                            tracing::info!(address = self.target.address(), "connected again");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the session store cannot be reached");
                        self.replace(Line::Down(error));
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
            if matches!(*self.line.borrow(), Line::Closed) {
                return;
            }
            number = number.max(1);
            self.lost.notified().await;
        }
    }

    fn replace(&self, new: Line) {
        self.line.send_if_modified(|line| {
            let open = !matches!(line, Line::Closed);
            if open {
                *line = new;
            }
            open
        });
    }

    /// It will not be made, for this reason.
    pub(super) fn give_up(&self, why: Error) {
        self.replace(Line::Down(why));
    }

    pub(super) fn close(&self) {
        self.line.send_replace(Line::Closed);
        self.lost.notify_one();
    }

    /// Says that the connection of this number is of no more use.
    pub(super) fn report_lost(&self, number: u64) {
        let lost = self.line.send_if_modified(|line| {
            let current = matches!(line, Line::Up { number: current, .. } if *current == number);
            if current {
                *line = Line::Connecting;
            }
            current
        });
        if lost {
            tracing::warn!(
                address = self.target.address(),
                "the connection to the session store broke"
            );
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

    /// The connection and its number, once it is there.
    pub(super) async fn up(&self, until: Instant) -> Result<(u64, Wire)> {
        if let Some(up) = ready(&self.line.borrow())? {
            return Ok(up);
        }
        let mut line = self.line.subscribe();
        loop {
            if let Some(up) = ready(&line.borrow_and_update())? {
                return Ok(up);
            }
            match tokio::time::timeout_at(until, line.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(closed()),
                Err(_) => {
                    return Err(Error::unavailable(format!(
                        "{} cannot be reached within {:?}",
                        self.target.address(),
                        self.target.wait
                    )));
                }
            }
        }
    }

    /// For [`Lane::is_silent_since`].
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn note_answer(&self) {
        self.answered.store(self.now(), Ordering::Relaxed);
    }

    /// Not a word since then: it may be gone without having said so.
    pub(super) fn is_silent_since(&self, then: u64) -> bool {
        self.answered.load(Ordering::Relaxed) < then
    }
}

fn ready(line: &Line) -> Result<Option<(u64, Wire)>> {
    match line {
        Line::Up { number, wire } => Ok(Some((*number, wire.clone()))),
        Line::Down(error) => Err(error.clone()),
        Line::Closed => Err(closed()),
        Line::Connecting => Ok(None),
    }
}

pub(super) fn closed() -> Error {
    Error::unavailable("the store was closed")
}
