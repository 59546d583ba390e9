//! What the `metrics` facade is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};

use fastsession::store::{Durability, Sweep};
use fastsession::{RedbStore, Session, SessionStore, testing};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// Every name with its labels, and the value.
type Measured = BTreeMap<String, DebugValue>;

fn measured(snapshotter: &metrics_util::debugging::Snapshotter) -> Measured {
    let snapshot = snapshotter.snapshot().into_vec();
    let named = snapshot.into_iter().map(|(key, _, _, value)| {
        let labels = key.key().labels().map(|label| format!("{{{}}}", label.value()));
        (format!("{}{}", key.key().name(), labels.collect::<String>()), value)
    });
    named.collect()
}

#[tokio::test]
async fn requests_commits_and_batches_are_measured() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::builder(dir.path().join("sessions.redb"))
        .durability(Durability::Immediate)
        .open()
        .unwrap();
    let session: Session = testing::session(&store);
    session.insert("secret-key", "secret-value").await.unwrap();
    session.login("secret-user").await.unwrap();
    session.save().await.unwrap();
    session.destroy().await.unwrap();
    let other: Session = testing::session(&store);
    other.insert("secret-key", "secret-value").await.unwrap();
    other.save().await.unwrap();
    store.health().await.unwrap();
    store.sweep(Sweep { at: store.clock().now(), limit: 10, purge: false }).await.unwrap();
    store.close().await.unwrap();
    other.insert("secret-key", "too late").await.unwrap();
    assert!(other.save().await.is_err());

    let measured = measured(&snapshotter);
    let counter = |name: &str| match measured.get(name) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{name}: {other:?} in {measured:?}"),
    };
    assert_eq!(counter("fastsession_requests_total{new}"), 2);
    assert_eq!(counter("fastsession_commits_total{create}"), 2);
    assert_eq!(counter("fastsession_commits_total{end}"), 1);
    assert_eq!(counter("fastsession_commit_failures_total"), 1);
    let gauge = |name: &str| match measured.get(name) {
        Some(DebugValue::Gauge(value)) => value.into_inner(),
        other => panic!("{name}: {other:?} in {measured:?}"),
    };
    // With the mark of the session that was renewed, or ended, and is not swept yet.
    assert!(gauge("fastsession_records") >= 2.0);
    assert!(gauge("fastsession_file_bytes") > 100_000.0);
    assert!(gauge("fastsession_queue_jobs") < 2.0);
    assert!((0.0..60.0).contains(&gauge("fastsession_snapshot_age_seconds")));
    for name in
        ["fastsession_commit_seconds", "fastsession_batch_seconds", "fastsession_batch_jobs"]
    {
        let Some(DebugValue::Histogram(values)) = measured.get(name) else {
            panic!("{name} in {measured:?}")
        };
        assert!(values.len() >= 2, "{values:?}");
    }
    // What identifies a session or a person is no label.
    assert!(!format!("{measured:?}").contains("secret"));
}

#[test]
fn every_measurement_is_in_the_list_of_the_operators_page_and_none_besides() {
    let names = |text: &str, before: &str, after: char| -> BTreeSet<String> {
        let parts = text.split(before).skip(1);
        parts.map(|part| format!("fastsession_{}", part.split(after).next().unwrap())).collect()
    };
    let told = names(include_str!("../src/meter.rs"), "\"fastsession_", '"');
    let listed = names(include_str!("../docs/operations.md"), "| `fastsession_", '`');
    assert_eq!(told, listed);
}
