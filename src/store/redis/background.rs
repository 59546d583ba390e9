//! The store's own thread: it drives the connection, and does what nobody waits for.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ::redis::ConnectionInfo;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::builder::Config;
use super::link::Link;
use super::opening::{self, Server};
use super::{Shared, ring, touches};
use crate::error::{Error, Result};
use crate::store::Sweep;
use crate::watch;

/// How often the server is asked whether it still is the one to write to.
const CHECK: Duration = Duration::from_secs(2);
/// Records a sweep looks at before it lets others have their turn.
const SWEEP_LIMIT: usize = 1000;

/// What the thread does, until the store is closed or dropped.
pub(super) fn run(
    info: ConnectionInfo,
    config: Config,
    connected: &SyncSender<Result<Arc<Shared>>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::unavailable("a runtime cannot be started").with_source(error);
            let _ = connected.send(Err(error));
            return;
        }
    };
    let handle = runtime.handle().clone();
    runtime.block_on(async {
        let link = Arc::new(Link::new(info, config.wait));
        let opened = opening::open(&link, &config.prefix, config.missing).await;
        let shared = match opened {
            Ok(keys) => Arc::new(Shared::new(link.clone(), keys, config, handle)),
            Err(error) => {
                let _ = connected.send(Err(error));
                return;
            }
        };
        let settled = shared.settle_keys(link.until()).await;
        let failed = settled.is_err();
        // Nobody waits any more, or there is nothing to wait for.
        if connected.send(settled.map(|()| shared.clone())).is_err() || failed {
            return;
        }
        let tasks = [
            tokio::spawn(follow_ring(shared.clone())),
            tokio::spawn(record_activity(shared.clone())),
            tokio::spawn(sweep(shared.clone())),
            tokio::spawn(check_role(shared.clone())),
        ];
        tokio::spawn(shared.clone().publish());
        let waiting = shared.closing().await;
        for task in tasks {
            task.abort();
        }
        let flushed = tokio::time::timeout_at(link.until(), shared.flush_touches()).await;
        let _ = tokio::time::timeout_at(link.until(), shared.publish_waiting()).await;
        link.close();
        let result = flushed.unwrap_or_else(|_| {
            Err(Error::unavailable("what activity there was could not be recorded in time"))
        });
        if let Some(waiting) = waiting {
            let _ = waiting.send(result);
        }
    });
}

/// Waits until the store is closed, and for whom.
impl Shared {
    async fn closing(&self) -> Option<oneshot::Sender<Result<()>>> {
        self.close_called.notified().await;
        self.close_waiter.lock().take()
    }
}

async fn follow_ring(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(ring::FOLLOW).await;
        shared.follow_ring().await;
    }
}

async fn record_activity(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(touches::DELAY).await;
        if let Err(error) = shared.flush_touches().await {
            tracing::warn!(%error, "activity of some sessions was not recorded");
        }
    }
}

async fn sweep(shared: Arc<Shared>) {
    let Some(interval) = shared.config.sweep_interval else { return };
    loop {
        tokio::time::sleep(interval).await;
        loop {
            let sweep = Sweep { at: shared.config.clock.now(), limit: SWEEP_LIMIT, purge: false };
            let span = watch::sweep();
            let swept = shared.sweep(&sweep, shared.link.until()).instrument(span.clone()).await;
            if let Ok(swept) = &swept {
                span.record("removed", swept.removed);
            }
            match swept {
                Ok(swept) if swept.more => tokio::task::yield_now().await,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "what is over could not be swept");
                    break;
                }
            }
        }
    }
}

/// A primary that became a replica would answer reads with what it knew.
async fn check_role(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(CHECK).await;
        if shared.link.is_cluster() {
            return;
        }
        if let Ok(server) = Server::of(&shared.link, shared.link.until()).await
            && server.is_replica()
        {
            shared.link.drop_current();
        }
    }
}
