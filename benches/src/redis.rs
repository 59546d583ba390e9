//! Ours and tower-sessions on the same Redis server, through the router.

use std::sync::Arc;
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
                let goal = Goal::AtLeast(1.0);
                let measure = format!("{path}, {clients} clients, {name}");
                let mut rounds = Rounds::default();
                let time = effort.pick(Duration::from_secs(2), Duration::from_millis(400));
                for _ in 0..effort.pick(5, 2) {
                    let mine = rate(&runtime, &ours, path, clients, time);
                    rounds.add(mine, rate(&runtime, &theirs, path, clients, time));
                }
                report.add(rounds.row(measure, PEER, "1/s", goal));
            }
        }
    }
}

/// Requests a second, of clients with a session of 300 bytes each.
fn rate(
    runtime: &Runtime,
    app: &Router,
    path: &'static str,
    clients: usize,
    time: Duration,
) -> f64 {
    runtime.block_on(async {
        let mut browsers = Vec::new();
        for _ in 0..clients {
            let mut browser = Browser::new(app);
            browser.get("/fill").await;
            browsers.push(browser);
        }
        let browsers = Arc::new(browsers);
        load::rate(clients, time, move |client, _| {
            let browsers = browsers.clone();
            async move {
                let response = browsers[client].peek(path).await;
                assert!(response.status().is_success(), "{}", response.status());
            }
        })
        .await
    })
}
