//! Other processes that stop with a lock in their hands, or die with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use fastsession::{Clock, RedbStore, Selector, SessionStore};
use tempfile::TempDir;

use crate::app::{Browser, app};
use crate::disk::{Disk, Fault, Plan};
use crate::helper::Holder;
use crate::run::{BACK_WITHIN, START, Scenario, fresh_file, quieten_engine};

const WAIT: Duration = Duration::from_millis(400);
/// For the threads of a busy machine.
const SLACK: Duration = Duration::from_millis(1500);

struct Fixture {
    dir: TempDir,
    store: RedbStore,
    browser: Browser,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = RedbStore::builder(dir.path().join("sessions.redb")).wait(WAIT).open().unwrap();
        let mut browser = Browser::new(&app(&store));
        assert_eq!(browser.get("/count").await.body, "1");
        Self { dir, store, browser }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("sessions.redb")
    }

    async fn assert_serves_again(&mut self) {
        let since = Instant::now();
        let mut reply = self.browser.get("/count").await;
        while reply.status != StatusCode::OK {
            reply.assert_unavailable();
            assert!(since.elapsed() < BACK_WITHIN, "{reply:?}");
            reply = self.browser.get("/count").await;
        }
        // What was answered with 503 was not done: nobody had taken it on.
        assert_eq!(reply.body, "2");
        assert!(reply.set_cookie.is_none(), "the session was lost");
    }
}

/// On one thread, so that nothing else is served if anything blocks it.
#[tokio::test]
async fn a_process_stopped_with_the_write_lock_costs_writes_their_deadline_and_no_more() {
    for killed in [true, false] {
        let mut fixture = Fixture::new().await;
        let holder = Holder::of_write_lock(&fixture.path());
        let (mut writing, mut other) = (fixture.browser.clone(), fixture.browser.clone());
        let (writing, other) = tokio::join!(writing.get("/count"), other.get("/"));
        writing.assert_unavailable();
        assert!((WAIT..WAIT + SLACK).contains(&writing.took), "{writing:?}");
        assert!(other.status == StatusCode::OK && other.took < WAIT / 2, "{other:?}");
        let reading = fixture.browser.get("/read").await;
        assert_eq!(reading.body, "Some(1)", "reading needs no lock of a writer's");
        fixture.browser.clone().get("/logout").await.assert_unavailable();
        if killed {
            holder.kill();
        } else {
            holder.go_on();
        }
        fixture.assert_serves_again().await;
    }
}

#[tokio::test]
async fn a_process_stopped_with_the_header_lock_costs_requests_their_deadline_and_no_more() {
    for killed in [true, false] {
        let mut fixture = Fixture::new().await;
        let holder = Holder::of_header_lock(&fixture.path());
        // The lease of the snapshot is over.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let browser = || fixture.browser.clone();
        let (mut one, mut two, mut three) = (browser(), browser(), browser());
        let (reading, writing, other) =
            tokio::join!(one.get("/read"), two.get("/count"), three.get("/"));
        for reply in [reading, writing] {
            reply.assert_unavailable();
            assert!((WAIT..WAIT + SLACK).contains(&reply.took), "{reply:?}");
        }
        assert!(other.status == StatusCode::OK && other.took < WAIT / 2, "{other:?}");
        if killed {
            holder.kill();
        } else {
            holder.go_on();
        }
        fixture.assert_serves_again().await;
    }
}

#[tokio::test]
async fn opening_beside_a_stopped_process_is_in_use_within_the_wait() {
    let fixture = Fixture::new().await;
    let builder = || RedbStore::builder(fixture.path()).wait(WAIT);
    let holder = Holder::of_header_lock(&fixture.path());
    let since = Instant::now();
    let error = builder().open().unwrap_err();
    assert!(error.is_in_use(), "{error:?}");
    assert!((WAIT..WAIT + SLACK).contains(&since.elapsed()), "{:?}", since.elapsed());
    holder.kill();
    builder().open().unwrap();

    let holder = Holder::of_write_lock(&fixture.path());
    let since = Instant::now();
    let opened = builder().open();
    assert!(since.elapsed() < WAIT + SLACK, "{:?}", since.elapsed());
    assert!(opened.is_err_and(|error| error.is_in_use()));
    holder.kill();
    builder().open().unwrap();
}

#[tokio::test]
async fn closing_beside_a_stopped_process_ends_within_the_wait() {
    let fixture = Fixture::new().await;
    let holder = Holder::of_write_lock(&fixture.path());
    let expire = fixture.store.expire(Selector::everyone());
    assert!(expire.await.unwrap_err().is_store_failure());
    let since = Instant::now();
    let closed = fixture.store.close().await;
    assert!(since.elapsed() < WAIT + SLACK, "{:?}: {closed:?}", since.elapsed());
    holder.kill();
}

#[tokio::test]
async fn an_error_on_reading_is_no_absence() {
    for exclusive in [false, true] {
        let disk = Disk::new(fresh_file(exclusive));
        let scenario = Scenario { seed: 0, exclusive, rounds: 0, neighbour: false };
        let store = scenario.open(&disk, &Clock::manual(START)).unwrap();
        let mut browser = Browser::new(&app(&store));
        assert_eq!(browser.get("/count").await.body, "1");
        tokio::time::sleep(Duration::from_millis(100)).await;
        disk.plan(Plan { from: 0, fault: Fault::Read, lasting: true });
        for path in ["/read", "/count", "/logout"] {
            browser.get(path).await.assert_unavailable();
        }
        assert_eq!(browser.get("/").await.status, StatusCode::OK);
        disk.heal();
        let since = Instant::now();
        let mut reply = browser.get("/read").await;
        while reply.status != StatusCode::OK {
            reply.assert_unavailable();
            assert!(since.elapsed() < BACK_WITHIN, "{reply:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
            reply = browser.get("/read").await;
        }
        assert_eq!(reply.body, "Some(1)");
    }
}

#[tokio::test]
async fn an_error_on_writing_fails_a_logout_and_sets_no_cookie() {
    quieten_engine();
    for (exclusive, fault) in
        [(false, Fault::Io), (true, Fault::Io), (false, Fault::Sync), (true, Fault::Sync)]
    {
        let disk = Disk::new(fresh_file(exclusive));
        let scenario = Scenario { seed: 0, exclusive, rounds: 0, neighbour: false };
        let store = scenario.open(&disk, &Clock::manual(START)).unwrap();
        let app = app(&store);
        let mut browser = Browser::new(&app);
        assert_eq!(browser.get("/count").await.body, "1");
        disk.plan(Plan { from: 0, fault, lasting: true });
        browser.get("/logout").await.assert_unavailable();
        Browser::new(&app).get("/grow").await.assert_unavailable();
        disk.heal();
        let since = Instant::now();
        let mut reply = browser.get("/read").await;
        while reply.status != StatusCode::OK {
            reply.assert_unavailable();
            assert!(since.elapsed() < BACK_WITHIN, "{reply:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
            reply = browser.get("/read").await;
        }
        // Whether it was done could not be known, and does not change any more.
        assert!(["Some(1)", "None"].contains(&reply.body.as_str()), "{reply:?}");
        assert_eq!(browser.get("/read").await.body, reply.body);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_client_gave_up_before_it_was_taken_on_is_not_done() {
    let mut fixture = Fixture::new().await;
    let holder = Holder::of_write_lock(&fixture.path());
    let mut gone = fixture.browser.clone();
    let given_up = tokio::time::timeout(WAIT / 4, gone.get("/count")).await;
    assert!(given_up.is_err(), "it was done");
    holder.kill();
    fixture.assert_serves_again().await;
}
