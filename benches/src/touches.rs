//! Reads that also record activity, and reads that do not.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fastsession::{CookieOptions, RedbStore, Result, Session, SessionLayer, SessionStore};
use tempfile::TempDir;

use crate::browser::Browser;
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

const CLIENTS: usize = 64;

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Reads of sessions whose touch is due, 64 clients");
    let (runtime, folder) = (load::runtime(), TempDir::new().expect("a folder"));
    let path = folder.path().join("ours.redb");
    let sessions = effort.pick(10_000, 1_000);
    let browsers = runtime.block_on(async {
        let store = RedbStore::open(&path).expect("a store");
        let app = router(&store, None);
        let browsers = tokio::sync::Mutex::new(Vec::new());
        let browsers = Arc::new(browsers);
        let filled = browsers.clone();
        load::each(CLIENTS, sessions, move |_| {
            let (mut browser, filled) = (Browser::new(&app), filled.clone());
            async move {
                browser.get("/fill").await;
                filled.lock().await.push(browser);
            }
        })
        .await;
        store.close().await.expect("it closes");
        std::mem::take(&mut *browsers.lock().await)
    });
    let browsers = Arc::new(browsers);
    let reads = effort.pick(400_000, 20_000);
    let mut rounds = Rounds::default();
    for _ in 0..effort.pick(5, 2) {
        // Due each time a millisecond has passed.
        let touched =
            runtime.block_on(rate(&path, &browsers, reads, Some(Duration::from_millis(1))));
        let untouched = runtime.block_on(rate(&path, &browsers, reads, None));
        rounds.add(touched, untouched);
    }
    let measure = format!("read and touch, {sessions} sessions");
    report.add(rounds.row(measure, "read", "1/s", Goal::AtLeast(0.8)));
}

/// Reads a second, until every touch is on disk.
#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
async fn rate(
    path: &Path,
    browsers: &Arc<Vec<Browser>>,
    reads: usize,
    touch_interval: Option<Duration>,
) -> f64 {
    let store = RedbStore::open(path).expect("a store");
    let app = router(&store, touch_interval);
    let browsers = browsers.clone();
    let start = Instant::now();
    load::each(CLIENTS, reads, move |number| {
        let (app, browsers) = (app.clone(), browsers.clone());
        async move {
            let browser = &browsers[number % browsers.len()];
            assert!(browser.peek_at(&app, "/read").await.status().is_success());
        }
    })
    .await;
    store.close().await.expect("it closes");
    reads as f64 / start.elapsed().as_secs_f64()
}

fn router(store: &RedbStore, touch_interval: Option<Duration>) -> Router {
    let mut layer = SessionLayer::new(store.clone()).with_cookie(CookieOptions::insecure_http());
    if let Some(interval) = touch_interval {
        layer = layer.with_touch_interval(interval);
    }
    Router::new().route("/fill", get(fill)).route("/read", get(read)).layer(layer)
}

async fn fill(session: Session) -> Result<()> {
    session.insert("payload", &crate::apps::payload()).await
}

async fn read(session: Session) -> Result<String> {
    session.get_or_default("payload").await
}
