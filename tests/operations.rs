//! What a store tells of its sessions, whether it is well, and stopping.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use fastsession::store::{Event, EventKind, Events, Sweep};
use fastsession::{
    Clock, EndedBy, MemoryStore, RedbStore, Selector, Session, SessionId, SessionStore, Timestamp,
    testing,
};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn memory(clock: &Clock) -> MemoryStore {
    let never = Duration::from_secs(86_400);
    MemoryStore::builder().clock(clock.clone()).sweep_interval(never).build().unwrap()
}

/// What was told up to now.
async fn told(events: &mut Events) -> Vec<Event> {
    let mut told = Vec::new();
    while let Ok(Some(event)) =
        tokio::time::timeout(Duration::from_millis(200), events.next()).await
    {
        told.push(event);
    }
    told
}

async fn signed_in<S: SessionStore + Clone>(store: &S, user: &str) -> (Session, SessionId) {
    let session: Session = testing::session(store);
    session.login(user).await.unwrap();
    session.save().await.unwrap();
    let id = session.id().await.unwrap().unwrap();
    (session, id)
}

/// A whole life, and what is told of it.
async fn tells_what_becomes_of_sessions<S: SessionStore + Clone>(store: S, clock: Clock) {
    // Before anybody listens.
    signed_in(&store, "before").await;
    let mut events = store.events().unwrap();
    let ended = |by| EventKind::Ended { by };

    let visitor: Session = testing::session(&store);
    visitor.insert("k", "v").await.unwrap();
    visitor.save().await.unwrap();
    let first = visitor.id().await.unwrap().unwrap();
    // Plain changes and reads are no events.
    visitor.insert("k", "w").await.unwrap();
    visitor.save().await.unwrap();
    clock.advance(HOUR);
    visitor.login("alice").await.unwrap();
    visitor.save().await.unwrap();
    let second = visitor.id().await.unwrap().unwrap();
    clock.advance(HOUR);
    visitor.renew().await.unwrap();
    visitor.save().await.unwrap();
    let third = visitor.id().await.unwrap().unwrap();
    visitor.destroy().await.unwrap();

    let life = told(&mut events).await;
    let kinds: Vec<_> = life.iter().map(|event| (event.id.unwrap(), event.kind)).collect();
    assert_eq!(
        kinds,
        [
            (first, EventKind::Created),
            (second, EventKind::Renewed { former: first, signed_in: true }),
            (third, EventKind::Renewed { former: second, signed_in: false }),
            (third, ended(EndedBy::Application)),
        ]
    );
    let users: Vec<_> = life.iter().map(|event| event.user.as_deref()).collect();
    assert_eq!(users, [None, Some("alice"), Some("alice"), Some("alice")]);
    let times: Vec<_> = life.iter().map(|event| event.at.saturating_since(START)).collect();
    assert_eq!(times, [Duration::ZERO, HOUR, 2 * HOUR, 2 * HOUR]);

    // By somebody else, one by one.
    let (_, bob) = signed_in(&store, "bob").await;
    store.expire(Selector::ids([bob])).await.unwrap();
    let kinds: Vec<_> = told(&mut events).await.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Created, ended(EndedBy::Application)]);

    // All of a user's: at once, and each when its row's turn comes.
    let (_, one) = signed_in(&store, "carol").await;
    let (_, two) = signed_in(&store, "carol").await;
    told(&mut events).await;
    store.expire(Selector::user("carol")).await.unwrap();
    let at_once = told(&mut events).await;
    assert_eq!(at_once.len(), 1);
    assert_eq!(at_once[0].kind, EventKind::EndedAll { by: EndedBy::Application });
    assert_eq!((at_once[0].user.as_deref(), at_once[0].id), (Some("carol"), None));
    let sweep = |purge| Sweep { at: clock.now(), limit: 1000, purge };
    store.sweep(sweep(false)).await.unwrap();
    let mut later: Vec<_> = told(&mut events).await;
    assert!(later.iter().all(|event| event.kind == ended(EndedBy::Application)));
    later.sort_by_key(|event| event.id);
    let mut ids = [Some(one), Some(two)];
    ids.sort_unstable();
    assert_eq!(later.iter().map(|event| event.id).collect::<Vec<_>>(), ids);

    // By the clock: told when it is swept, of the time it was over. The one made before is told too.
    let (_, idle) = signed_in(&store, "dave").await;
    told(&mut events).await;
    let left = clock.now();
    clock.advance(40 * 24 * HOUR);
    store.sweep(sweep(false)).await.unwrap();
    let late = told(&mut events).await;
    assert_eq!(late.len(), 2, "{late:?}");
    assert!(late.iter().all(|event| event.kind == ended(EndedBy::Timeout)));
    let of_dave = late.iter().find(|event| event.id == Some(idle)).unwrap();
    assert_eq!(of_dave.at, left.saturating_add(24 * HOUR));

    // By an operator's purge, as by the store's own sweeping.
    let (_, soon) = signed_in(&store, "erin").await;
    clock.advance(40 * 24 * HOUR);
    store.purge().await.unwrap();
    let purged = told(&mut events).await;
    let of_erin: Vec<_> = purged.iter().filter(|event| event.id == Some(soon)).collect();
    assert_eq!(
        of_erin.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::Created, ended(EndedBy::Timeout)]
    );

    store.health().await.unwrap();
    store.close().await.unwrap();
    assert!(store.health().await.is_err(), "a closed store is not well");
}

#[tokio::test]
async fn a_memory_store_tells_what_becomes_of_sessions() {
    let clock = Clock::manual(START);
    tells_what_becomes_of_sessions(memory(&clock), clock).await;
}

#[tokio::test]
async fn a_redb_store_tells_what_becomes_of_sessions() {
    let clock = Clock::manual(START);
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::builder(dir.path().join("sessions.redb"))
        .clock(clock.clone())
        .without_sweeping()
        .open()
        .unwrap();
    tells_what_becomes_of_sessions(store, clock).await;
}

#[tokio::test]
async fn a_slow_listener_is_told_how_much_it_missed_and_goes_on() {
    let clock = Clock::manual(START);
    let store = memory(&clock);
    let mut events = store.events().unwrap();
    for n in 0..5000 {
        let session: Session = testing::session(&store);
        session.insert("n", &n).await.unwrap();
        session.save().await.unwrap();
    }
    let first = events.next().await.unwrap();
    assert_eq!(first.kind, EventKind::Missed { count: 5000 - 4096 });
    assert_eq!(told(&mut events).await.len(), 4096);
}

#[tokio::test]
async fn a_store_behind_an_arc_tells_its_events_too() {
    let store = std::sync::Arc::new(memory(&Clock::manual(START)));
    let mut events = store.events().unwrap();
    signed_in(&store, "alice").await;
    assert_eq!(told(&mut events).await.len(), 1);
}

#[tokio::test]
async fn the_stream_ends_with_the_store() {
    let store = memory(&Clock::manual(START));
    let mut events = store.events().unwrap();
    drop(store);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_user_beyond_the_cap_is_told_as_one_ended_by_it() {
    use fastsession::store::{Access, Commit, Draft, Login, Op};
    let clock = Clock::manual(START);
    let store = memory(&clock);
    let mut events = store.events().unwrap();
    let cap = Some(fastsession::SessionCap::end_oldest(1));
    for byte in 1..=2 {
        let login = Some(Login { user: "alice".into(), cap });
        let op = Op::Create { realm: Some("shop".into()), draft: Draft::default(), login };
        let (id, access) = (SessionId::from_bytes([byte; 32]), Access::at(clock.now()));
        store.commit(Commit { id, access, max_data_bytes: 100, op }).await.unwrap();
    }
    let told = told(&mut events).await;
    assert!(told.iter().all(|event| event.realm.as_deref() == Some("shop")));
    let mut kinds: Vec<_> = told.iter().map(|e| (e.id.unwrap().as_bytes()[0], e.kind)).collect();
    kinds.sort_by_key(|(id, kind)| (*id, kind.as_str()));
    let capped = EventKind::Ended { by: EndedBy::Cap };
    assert_eq!(kinds, [(1, EventKind::Created), (1, capped), (2, EventKind::Created)]);
}

#[tokio::test]
async fn a_graceful_shutdown_and_close_keep_the_last_activity() {
    use axum::{Router, body::Body, http::Request, routing::get};
    use fastsession::{CookieOptions, SessionLayer};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    let clock = Clock::manual(START);
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let file = dir.path().join("sessions.redb");
        RedbStore::builder(file).clock(clock.clone()).without_sweeping().open().unwrap()
    };
    let store = open();
    let cookie = CookieOptions::insecure_http();
    let alice = testing::signed_in::<(), _>(&store, &cookie, "alice").await.unwrap();
    let user = async |s: Session| s.user().await.map(Option::unwrap_or_default);
    let app = Router::new()
        .route("/", get(user))
        .layer(SessionLayer::new(store.clone()).with_cookie(cookie));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(async { server.await.unwrap() });

    clock.advance(HOUR);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).header("cookie", &alice.cookie).body(Body::empty()).unwrap();
    assert!(client.request(request).await.unwrap().status().is_success());
    drop(client);
    stop.send(()).unwrap();
    server.await.unwrap();
    store.close().await.unwrap();

    let kept = open().inspect(&alice.id).await.unwrap().unwrap();
    assert_eq!(kept.record.last_seen_at(), START.saturating_add(HOUR));
}
