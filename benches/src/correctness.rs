//! What is lost when requests of one session meet.

use axum::Router;
use fastsession::MemoryStore;
use sqlx::sqlite::SqliteSynchronous;
use tempfile::TempDir;
use tower_sessions::MemoryStore as TowerMemoryStore;

use crate::apps::{self, ours};
use crate::browser::Browser;
use crate::peers::{self, Redis};
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

const AT_A_TIME: usize = 65;

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.note(
        "\n## Correct under concurrency\n\n\
         | library | increments of one counter end at | two requests set two keys: one lost | \
         logged-out session revived by a late save |\n| --- | --- | --- | --- |",
    );
    let runtime = load::runtime();
    runtime.block_on(async {
        let folder = TempDir::new().expect("a folder");
        let redb = fastsession::RedbStore::open(folder.path().join("ours.redb")).expect("a store");
        let sqlite = folder.path().join("theirs.sqlite");
        let sqlite = peers::sqlite(&sqlite, SqliteSynchronous::Full, peers::SQLX_DEFAULT).await;
        let memory = MemoryStore::new().expect("a store");
        check(report, effort, "fastsession, memory", ours::router(memory)).await;
        check(report, effort, "fastsession, redb", ours::router(redb)).await;
        let theirs = apps::tower_sessions::router(TowerMemoryStore::default());
        check(report, effort, "tower-sessions, memory", theirs).await;
        check(report, effort, "tower-sessions, SQLite", apps::tower_sessions::router(sqlite)).await;
        match Redis::start().await {
            Some(redis) => {
                let theirs = apps::tower_sessions::router(redis.store());
                check(report, effort, "tower-sessions, Redis", theirs).await;
            }
            None => report.note("| tower-sessions, Redis | skipped: no redis-server | | |"),
        }
        let theirs = apps::axum_session::router().await;
        check(report, effort, "axum_session, memory", theirs).await;
    });
}

async fn check(report: &mut Report, effort: Effort, library: &str, app: Router) {
    let (wanted, pairs, logouts) = effort.pick((3_201, 500, 200), (651, 50, 20));
    let counted = increments(&app, wanted).await;
    let lost = lost_keys(&app, pairs).await;
    let revived = revived(&app, logouts).await;
    report.note(&format!(
        "| {library} | {counted} of {wanted} | {lost} of {pairs} | {revived} of {logouts} |"
    ));
    if library.starts_with("fastsession") {
        let rows = [
            ("increments", counted, wanted),
            ("parallel keys kept", pairs - lost, pairs),
            ("logouts that stay", logouts - revived, logouts),
        ];
        for (measure, held, of) in rows {
            let mut rounds = Rounds::default();
            #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
            rounds.add(held as f64, of as f64);
            let row = rounds.row(format!("{library}: {measure}"), "all", "", Goal::AtLeast(1.0));
            report.record(row);
        }
    }
}

/// Where the counter ends after `wanted` increments.
async fn increments(app: &Router, wanted: usize) -> usize {
    let mut browser = Browser::new(app);
    browser.get("/increment").await;
    let client = browser.clone();
    load::each(AT_A_TIME, wanted - 1, move |_| {
        let client = client.clone();
        async move { drop(client.peek("/increment").await) }
    })
    .await;
    browser.get("/read").await.parse().unwrap_or(0)
}

/// In how many of `pairs` one of two keys is missing.
async fn lost_keys(app: &Router, pairs: usize) -> usize {
    let mut lost = 0;
    for _ in 0..pairs {
        let mut browser = Browser::new(app);
        browser.get("/write").await;
        let (one, other) = (browser.clone(), browser.clone());
        let one = tokio::spawn(async move { one.peek("/set/a").await });
        let other = tokio::spawn(async move { other.peek("/set/b").await });
        let _ = (one.await, other.await);
        lost += usize::from(browser.get("/keys").await != "2");
    }
    lost
}

/// How many of `logouts` did not last, because another request saved its session after them.
async fn revived(app: &Router, logouts: usize) -> usize {
    let mut revived = 0;
    for _ in 0..logouts {
        let mut browser = Browser::new(app);
        browser.get("/write").await;
        let (writer, leaver) = (browser.clone(), browser.clone());
        let writer = tokio::spawn(async move { writer.peek("/late_write").await });
        let leaver = tokio::spawn(async move { leaver.peek("/late_logout").await });
        let _ = (writer.await, leaver.await);
        // The cookie from before the logout.
        revived += usize::from(browser.get("/read").await != "0");
    }
    revived
}
