//! Many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// A runtime as an application has it: a thread a core.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// A runtime on this thread, for what one request costs.
pub(crate) fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Operations a second, by `clients` that each wait for an operation before they begin the next.
/// `op` gets the client's number and counts its operations.
pub(crate) async fn rate<F, O>(clients: usize, time: Duration, op: F) -> f64
where
    F: Fn(usize, u64) -> O + Send + Sync + 'static,
    O: Future<Output = ()> + Send,
{
    let op = Arc::new(op);
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (op, done, stop) = (op.clone(), done.clone(), stop.clone());
        tasks.spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                op(client, count).await;
                count += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time / 5).await;
    let (before, start) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(time).await;
    let (after, elapsed) = (done.load(Ordering::Relaxed), start.elapsed());
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let rate = (after - before) as f64 / elapsed.as_secs_f64();
    rate
}

/// Runs `op` for each of `0..count`, by `clients` at a time.
pub(crate) async fn each<F, O>(clients: usize, count: usize, op: F)
where
    F: Fn(usize) -> O + Send + Sync + 'static,
    O: Future<Output = ()> + Send,
{
    let op = Arc::new(op);
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let op = op.clone();
        tasks.spawn(async move {
            for number in (client..count).step_by(clients) {
                op(number).await;
            }
        });
    }
    tasks.join_all().await;
}

/// Mean time of `op` in microseconds, one after the other.
pub(crate) async fn latency<O: Future<Output = ()>>(count: u32, mut op: impl FnMut() -> O) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        op().await;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}
