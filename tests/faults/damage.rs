//! A file whose first bytes, with redb's header in them, are damaged.

use std::collections::BTreeMap;
use std::fs;

use fastsession::{Clock, RedbStore, SessionStore};

use crate::model::{self, Lane, World};
use crate::run::{START, quieten_engine};

/// What redb's header takes.
const HEADER_BYTES: usize = 320;

#[tokio::test]
async fn a_broken_header_is_refused_untouched_or_harmless() {
    quieten_engine();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.redb");
    let clock = Clock::manual(START);
    let open = || RedbStore::builder(&path).clock(clock.clone()).without_sweeping().open();
    let mut world = World { ring_version: 1, sessions: BTreeMap::new() };
    let store = open().unwrap();
    let mut lane = Lane::new(1);
    for _ in 0..10 {
        let action = lane.create_of(Some("alice".into()), 50);
        action.run(&store, &clock).await.unwrap();
        action.apply(&mut world);
    }
    store.close().await.unwrap();
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    for position in (0..HEADER_BYTES).step_by(3) {
        let mut bytes = whole.clone();
        bytes[position] ^= 0xff;
        fs::write(&path, &bytes).unwrap();
        match open() {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("sessions.redb"), "{position}: {error:?}");
                assert!(fs::read(&path).unwrap() == bytes, "byte {position}: changed: {error:?}");
            }
            Ok(store) => {
                let found = model::read(&store, &clock, &world).await.unwrap();
                assert_eq!(found, world, "byte {position}");
                store.close().await.unwrap();
            }
        }
    }
    println!("{refused} broken headers were refused");
    assert!(refused > 20);
}
