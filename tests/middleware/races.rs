//! Rules that say *concurrent*, with real tasks on several threads.

use std::sync::atomic::Ordering;

use super::support::{Browser, Probe, Reply, layer};
use axum::Router;
use axum::routing::get;
use fastsession::{Clock, Result, Selector, Session, SessionStore};

/// Runs both at once and answers both.
async fn race(browser: &Browser, first: &str, second: &str) -> (Reply, Reply) {
    let spawn = |path: &str| {
        let (browser, path) = (browser.clone(), path.to_owned());
        tokio::spawn(async move { browser.peek(&path).await })
    };
    let (first, second) = (spawn(first), spawn(second));
    (first.await.unwrap(), second.await.unwrap())
}

async fn count(session: Session) -> Result<String> {
    let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

fn routes() -> Router {
    Router::new()
        .route("/count", get(count))
        .route("/a", get(async |session: Session| session.insert("a", &1).await))
        .route("/b", get(async |session: Session| session.insert("b", &2).await))
        .route("/clear", get(async |session: Session| session.clear().await))
        .route("/keys", get(async |s: Session| s.keys().await.map(|keys| keys.join(","))))
        .route("/user", get(async |s: Session| s.user().await.map(Option::unwrap_or_default)))
        .route("/login", get(async |session: Session| session.login("alice").await))
        .route("/renew", get(async |session: Session| session.renew().await))
        .route("/logout", get(async |session: Session| session.destroy().await))
}

async fn rule_04_two_requests_that_set_different_keys_both_survive(
    store: impl SessionStore + Clone,
    rounds: usize,
) {
    let store = Probe::around(store);
    store.counts.slow.store(true, Ordering::SeqCst);
    let mut browser = Browser::new(&routes().layer(layer(store)));
    browser.get("/count").await;
    for _ in 0..rounds {
        race(&browser, "/a", "/b").await;
        assert_eq!(browser.peek("/keys").await.body, "a,b,n");
        browser.get("/clear").await;
        browser.get("/count").await;
    }
}

async fn rule_04_increments_from_anywhere_add_up(store: impl SessionStore + Clone, rounds: usize) {
    const TASKS: usize = 16;
    let store = Probe::around(store);
    store.counts.slow.store(true, Ordering::SeqCst);
    // Two layers on one store, as two processes would be but for the turns they share.
    let apps = [routes().layer(layer(store.clone())), routes().layer(layer(store))];
    let mut browser = Browser::new(&apps[0]);
    browser.get("/count").await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let mut browser = browser.clone();
            browser.app = apps[task % 2].clone();
            tokio::spawn(async move {
                for _ in 0..rounds / 8 {
                    assert_eq!(browser.peek("/count").await.status, 200);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(browser.peek("/count").await.body, (TASKS * (rounds / 8) + 2).to_string());
}

async fn rule_06_concurrent_clones_of_one_handle_make_one_session(
    store: impl SessionStore + Clone,
    rounds: usize,
) {
    let handler = async |session: Session| -> Result<String> {
        let tasks: Vec<_> = (0..8_u32)
            .map(|task| {
                let session = session.clone();
                tokio::spawn(async move {
                    session.insert(&format!("k{task}"), &task).await?;
                    session.save().await?;
                    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap()?;
        }
        Ok(format!("{:?} {}", session.get::<u64>("n").await?, session.keys().await?.len()))
    };
    let app = Router::new().route("/", get(handler)).layer(layer(store.clone()));
    for _ in 0..rounds {
        let reply = Browser::new(&app).get("/").await;
        assert_eq!(reply.body, "Some(8) 9");
        reply.cookie();
    }
    assert_eq!(store.stats().await.unwrap().records, rounds as u64);
}

async fn rule_07_logout_wins_over_whatever_runs_beside_it(
    store: impl SessionStore + Clone,
    rounds: usize,
) {
    let store = Probe::around(store);
    let app = routes().layer(layer(store.clone()));
    for round in 0..rounds {
        store.counts.slow.store(round % 2 == 0, Ordering::SeqCst);
        let mut browser = Browser::new(&app);
        browser.get("/login").await;
        let other = ["/a", "/count", "/renew", "/user"][round % 4];
        let (logout, reply) = race(&browser, "/logout", other).await;
        if logout.status == 200 {
            assert!(reply.cookies().is_empty() || other == "/renew", "{other}");
            assert_eq!(browser.peek("/user").await.body, "");
            browser.jar.receive(&reply.headers);
            assert_eq!(browser.peek("/user").await.body, "", "{other}");
        } else {
            // The renewal came first: the logout says that it did not happen.
            assert_eq!((logout.status.as_u16(), other), (409, "/renew"));
            assert!(logout.cookies().is_empty());
            browser.jar.receive(&reply.headers);
            assert_eq!(browser.peek("/user").await.body, "alice");
            store.expire(Selector::user("alice")).await.unwrap();
        }
    }
}

async fn rule_08_whichever_response_arrives_last_the_jar_ends_signed_in(
    store: impl SessionStore + Clone,
    rounds: usize,
) {
    let store = Probe::around(store);
    let app = routes().layer(layer(store.clone()));
    for round in 0..rounds {
        store.counts.slow.store(round % 2 == 0, Ordering::SeqCst);
        let mut browser = Browser::new(&app);
        browser.get("/a").await;
        let other = ["/b", "/count", "/clear", "/user", "/keys"][round % 5];
        let (login, reply) = race(&browser, "/login", other).await;
        assert_eq!(login.status, 200);
        login.cookie();
        let mut in_order = browser.clone();
        in_order.jar.receive(&reply.headers);
        in_order.jar.receive(&login.headers);
        assert_eq!(in_order.peek("/user").await.body, "alice");
        browser.jar.receive(&login.headers);
        browser.jar.receive(&reply.headers);
        assert_eq!(browser.peek("/user").await.body, "alice", "{other}");
    }
}

async fn rule_11_a_login_that_races_the_end_of_all_is_over_or_new(
    store: impl SessionStore + Clone,
    rounds: usize,
) {
    let app = routes().layer(layer(store.clone()));
    for _ in 0..rounds {
        let mut browser = Browser::new(&app);
        browser.get("/a").await;
        let ending = {
            let store = store.clone();
            tokio::spawn(async move { store.expire(Selector::user("alice")).await })
        };
        let login = browser.peek("/login").await;
        ending.await.unwrap().unwrap();
        assert_eq!(login.status, 200);
        browser.jar.receive(&login.headers);
        let live = store.sessions_of("alice").await.unwrap().len();
        let user = browser.peek("/user").await.body;
        assert_eq!(live, usize::from(user == "alice"));
        store.expire(Selector::user("alice")).await.unwrap();
        assert_eq!(browser.peek("/user").await.body, "");
    }
}

/// Each race on both stores; on the file, where each commit is an fsync, with fewer rounds.
macro_rules! races {
    ($($race:ident: $in_memory:literal, $on_file:literal;)*) => {
        mod in_memory {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $race() {
                super::$race(crate::support::memory(&Clock::system()), $in_memory).await;
            })*
        }

        #[cfg(feature = "redb")]
        mod on_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $race() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("sessions.redb");
                super::$race(fastsession::RedbStore::open(path).unwrap(), $on_file).await;
            })*
        }
    };
}

races! {
    rule_04_two_requests_that_set_different_keys_both_survive: 2000, 200;
    rule_04_increments_from_anywhere_add_up: 2000, 200;
    rule_06_concurrent_clones_of_one_handle_make_one_session: 300, 100;
    rule_07_logout_wins_over_whatever_runs_beside_it: 2000, 1000;
    rule_08_whichever_response_arrives_last_the_jar_ends_signed_in: 1000, 1000;
    rule_11_a_login_that_races_the_end_of_all_is_over_or_new: 1000, 100;
}
