//! What a process hears of what others do.

use std::time::{Duration, Instant};

use fastsession::store::{Event, EventKind, Events, SessionStore};
use fastsession::{EndedBy, RedisStore, Selector, Session};

use crate::common::tool;
use crate::server::{self, Node};

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("an event").unwrap()
}

/// Until `count` processes listen.
async fn listened_to(node: &Node, count: usize) {
    let began = Instant::now();
    let listeners = || node.cli(&["PUBSUB", "NUMSUB", "{fastsession}:events"]);
    while !listeners().ends_with(&count.to_string()) {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody listens: {}", listeners());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_processes_do_is_heard_once_and_in_order() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    let (here, there) =
        (RedisStore::connect(&node.url()).unwrap(), RedisStore::connect(&node.url()).unwrap());
    let (mut of_here, mut of_there) = (here.events().unwrap(), there.events().unwrap());
    listened_to(&node, 2).await;

    let session: Session = fastsession::testing::session(&there);
    session.login("alice").await.unwrap();
    session.insert("n", &1).await.unwrap();
    session.save().await.unwrap();
    let id = session.id().await.unwrap();
    // A change of data is none.
    session.insert("n", &2).await.unwrap();
    session.save().await.unwrap();
    session.destroy().await.unwrap();
    for events in [&mut of_here, &mut of_there] {
        let created = next(events).await;
        assert_eq!((created.kind, created.id), (EventKind::Created, id));
        assert_eq!(created.user.as_deref(), Some("alice"));
        let ended = next(events).await;
        assert_eq!(ended.kind, EventKind::Ended { by: EndedBy::Application });
        assert_eq!(ended.id, id);
    }

    there.expire(Selector::user("alice")).await.unwrap();
    for events in [&mut of_here, &mut of_there] {
        let all = next(events).await;
        assert_eq!(all.kind, EventKind::EndedAll { by: EndedBy::Application });
        assert_eq!((all.id, all.user.as_deref()), (None, Some("alice")));
    }

    // The tool is a process like any other.
    let session: Session = fastsession::testing::session(&here);
    session.insert("n", &1).await.unwrap();
    session.save().await.unwrap();
    let id = session.id().await.unwrap().unwrap();
    let output = tool().args(["expire", &id.to_string(), "--db", &node.url()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for events in [&mut of_here, &mut of_there] {
        assert_eq!(next(events).await.kind, EventKind::Created);
        let ended = next(events).await;
        assert_eq!(ended.kind, EventKind::Ended { by: EndedBy::Cli });
        assert_eq!(ended.id, Some(id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_is_told_as_a_gap_and_mended() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    let (here, there) =
        (RedisStore::connect(&node.url()).unwrap(), RedisStore::connect(&node.url()).unwrap());
    let mut events = here.events().unwrap();
    listened_to(&node, 1).await;
    node.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(next(&mut events).await.kind, EventKind::Missed { count: 0 });
    let session: Session = fastsession::testing::session(&there);
    session.insert("n", &1).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(next(&mut events).await.kind, EventKind::Created);
    // Nobody listens any more, and the connection goes.
    drop(events);
    listened_to(&node, 0).await;
    // Who comes later is heard again.
    let _events = here.events().unwrap();
    listened_to(&node, 1).await;
}
