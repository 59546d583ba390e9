//! Many who update one session at once: each is computed once, not again and again until it wins.

use super::*;
use axum::extract::Path;
use fastsession::RedbStore;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A number, and what makes it long.
type Padded = (u64, String);

const TASKS: usize = 32;
const ROUNDS: usize = 10;

/// How often `f` runs for `TASKS * ROUNDS` updates of values of `bytes`, spread over `keys`.
async fn runs_of(keys: usize, bytes: usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path().join("sessions.redb")).unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let add = async move |Path(key): Path<String>, session: Session| -> Result<()> {
        let add_one = |value: Option<Padded>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (n, padding) = value.unwrap_or_else(|| (0, "x".repeat(bytes)));
            (n + 1, padding)
        };
        session.update(&key, add_one).await.map(drop)
    };
    let read = async |Path(key): Path<String>, session: Session| -> Result<String> {
        Ok(session.get::<Padded>(&key).await?.unwrap().0.to_string())
    };
    let app = Router::new()
        .route("/add/{key}", get(add))
        .route("/read/{key}", get(read))
        .layer(layer(store));
    let mut browser = Browser::new(&app);
    for key in 0..keys {
        browser.get(&format!("/add/{key}")).await;
    }
    runs.store(0, Ordering::SeqCst);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let browser = browser.clone();
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    assert_eq!(browser.peek(&format!("/add/{}", task % keys)).await.status, 200);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for key in 0..keys {
        let total = browser.peek(&format!("/read/{key}")).await.body;
        assert_eq!(total, (TASKS * ROUNDS / keys + 1).to_string());
    }
    runs.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rule_04_a_crowd_that_updates_one_session_does_not_crowd_itself_out() {
    for (keys, bytes) in [(1, 10), (2, 10), (8, 10), (2, 10_000), (1, 50_000)] {
        let runs = runs_of(keys, bytes).await;
        assert!(runs <= 2 * TASKS * ROUNDS, "{keys} keys of {bytes} bytes: {runs} runs");
    }
}
