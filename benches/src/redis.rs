//! Ours and tower-sessions on the same Redis server, through the router.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use fastsession::RedisStore;
use tokio::runtime::Runtime;

use crate::apps::{ours, tower_sessions};
use crate::browser::Browser;
use crate::peers::Redis;
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

const PEER: &str = "tower-sessions + Redis";

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Requests a second on one Redis server");
    let durabilities: [(&str, &[&str]); 2] = [
        ("no AOF", &["--appendonly", "no"]),
        ("appendfsync always", &["--appendonly", "yes", "--appendfsync", "always"]),
    ];
    for (name, options) in durabilities {
        let runtime = load::runtime();
        let Some(server) = runtime.block_on(Redis::start_with(options)) else {
            report.skipped(name, "redis-server is not installed");
            continue;
        };
        let store = runtime.block_on(async { RedisStore::connect(&server.url) });
        let ours = ours::router(store.expect("a store"));
        let theirs = tower_sessions::router(server.store());
        for path in ["/read", "/write"] {
            for clients in [1, 64] {
                let measure = format!("{path}, {clients} clients, {name}");
                let (mut rates, mut times) = (Rounds::default(), Rounds::default());
                let time = Duration::from_millis(effort.pick(800, 400));
                for _ in 0..effort.pick(15, 2) {
                    let load = |app| Load { app, path, clients, time, server: server.process() };
                    let (mine, peer) = (load(&ours).run(&runtime), load(&theirs).run(&runtime));
                    rates.add(mine.rate, peer.rate);
                    times.add(mine.processor, peer.processor);
                }
                report.add(rates.row(&*measure, PEER, "1/s", Goal::AtLeast(1.0)));
                let measure = format!("{measure}: processor time, server's too");
                report.add(times.row(measure, PEER, "µs", Goal::Report));
            }
        }
    }
}

/// Clients with a session of 300 bytes each, that request one path.
struct Load<'a> {
    app: &'a Router,
    path: &'static str,
    clients: usize,
    time: Duration,
    /// Process of the Redis server.
    server: u32,
}

struct Measured {
    /// Requests a second.
    rate: f64,
    /// Microseconds that this process and the server spend on a request. Unlike the rate it does
    /// not depend on what else runs on the machine.
    processor: f64,
}

impl Load<'_> {
    fn run(&self, runtime: &Runtime) -> Measured {
        let path = self.path;
        let browsers = runtime.block_on(async {
            let mut browsers = Vec::new();
            for _ in 0..self.clients {
                let mut browser = Browser::new(self.app);
                browser.get("/fill").await;
                browsers.push(browser);
            }
            Arc::new(browsers)
        });
        let count = Arc::new(AtomicU64::new(0));
        let spent = || processor_time("self") + processor_time(&self.server.to_string());
        let before = spent();
        let counted = count.clone();
        let rate = runtime.block_on(load::rate(self.clients, self.time, move |client, _| {
            let (browsers, counted) = (browsers.clone(), counted.clone());
            async move {
                let response = browsers[client].peek(path).await;
                assert!(response.status().is_success(), "{}", response.status());
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let spent = spent().saturating_sub(before);
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let requests = count.load(Ordering::Relaxed) as f64;
        Measured { rate, processor: spent.as_secs_f64() * 1e6 / requests }
    }
}

/// What a process has used up of the processors.
fn processor_time(process: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name in parentheses: user and system time are the 12th and 13th field, in ticks
    // of 10 ms.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
