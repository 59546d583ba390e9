//! The bound on `MemoryStore`, and what goes to keep it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use fastsession::record::{Changes, EndedBy};
use fastsession::store::{
    Access, Commit, DEFAULT_MAX_DATA_BYTES, Draft, Loaded, Login, Op, Outcome, Query, Sweep,
};
use fastsession::{
    Clock, Error, Filter, MemoryStore, Selector, SessionId, SessionStore, SessionToken, Timeouts,
    Timestamp,
};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

fn bounded(clock: &Clock, bytes: usize) -> MemoryStore {
    MemoryStore::builder()
        .clock(clock.clone())
        .max_bytes(bytes)
        .sweep_interval(24 * 60 * MINUTE)
        .build()
        .unwrap()
}

fn blob(bytes: usize) -> Draft {
    let mut changes = Changes::new();
    changes.set("blob", vec![0; bytes]).unwrap();
    Draft { changes, ..Draft::default() }
}

fn id() -> SessionId {
    SessionToken::generate().unwrap().id()
}

async fn commit(store: &MemoryStore, id: SessionId, op: Op) -> Result<Outcome, Error> {
    let access = Access::at(store.clock().now());
    store.commit(Commit { id, access, max_data_bytes: DEFAULT_MAX_DATA_BYTES, op }).await
}

/// A session of `user`, if it fits.
async fn create(store: &MemoryStore, user: Option<&str>, bytes: usize) -> Result<SessionId, Error> {
    let login = user.map(|user| Login { user: user.into(), cap: None });
    let id = id();
    commit(store, id, Op::Create { realm: None, draft: blob(bytes), login }).await.map(|_| id)
}

async fn lives(store: &MemoryStore, id: &SessionId) -> bool {
    matches!(store.load(id, &Access::at(store.clock().now())).await.unwrap(), Loaded::Live(_))
}

/// Signs users in until no more fit.
async fn fill(store: &MemoryStore, bytes: usize) -> Vec<SessionId> {
    let mut ids = Vec::new();
    loop {
        match create(store, Some("alice"), bytes).await {
            Ok(id) => ids.push(id),
            Err(error) => {
                assert!(error.is_full());
                return ids;
            }
        }
    }
}

#[tokio::test]
async fn rule_19_the_least_recently_seen_visitors_make_room() {
    let clock = Clock::manual(START);
    let store = bounded(&clock, 64 * 1024);
    let member = create(&store, Some("alice"), 1000).await.unwrap();
    let mut visitors = Vec::new();
    for _ in 0..500 {
        clock.advance(Duration::from_secs(1));
        visitors.push(create(&store, None, 1000).await.unwrap());
    }
    assert!(lives(&store, &member).await);
    let mut alive = Vec::new();
    for visitor in &visitors {
        alive.push(lives(&store, visitor).await);
    }
    let first = alive.iter().position(|alive| *alive).unwrap();
    assert!(alive[first..].iter().all(|alive| *alive), "the most recent ones stay");
    let kept = alive.len() - first;
    assert!((45..64).contains(&kept), "{kept} visitors fit");
}

#[tokio::test]
async fn rule_19_what_is_over_goes_before_anybody_who_is_not() {
    let clock = Clock::manual(START);
    let store = bounded(&clock, 64 * 1024);
    let visitor = create(&store, None, 1000).await.unwrap();
    let members = fill(&store, 2000).await;
    assert!(!lives(&store, &visitor).await, "members go before visitors");
    store.expire(Selector::ids(members[..20].to_vec())).await.unwrap();
    let visitor = create(&store, None, 30_000).await.unwrap();
    assert!(lives(&store, &visitor).await);
    for member in &members[20..] {
        assert!(lives(&store, member).await);
    }
    // What had expired without anybody noticing goes as well.
    clock.advance(31 * 24 * 60 * MINUTE);
    for _ in 0..20 {
        create(&store, Some("bob"), 2000).await.unwrap();
    }
}

#[tokio::test]
async fn rule_19_a_newcomer_gets_room_however_large_it_is() {
    let store = bounded(&Clock::manual(START), 64 * 1024);
    for _ in 0..100 {
        create(&store, None, 500).await.unwrap();
    }
    let large = create(&store, None, 50_000).await.unwrap();
    assert!(lives(&store, &large).await);
    assert!(create(&store, None, 65_500).await.unwrap_err().is_full());
    assert!(lives(&store, &large).await, "nobody goes for what cannot fit");
}

#[tokio::test]
async fn rule_19_a_full_store_refuses_newcomers_and_serves_the_others() {
    let clock = Clock::manual(START);
    let store = bounded(&clock, 64 * 1024);
    let members = fill(&store, 0).await;
    assert!(create(&store, None, 0).await.unwrap_err().is_full());
    for member in &members {
        assert!(lives(&store, member).await);
    }
    let end = |by| Op::End { by, grace: MINUTE };
    let (own, others) = members.split_at(members.len() - 10);
    for member in own {
        let ended = commit(&store, *member, end(EndedBy::Application)).await;
        assert!(matches!(ended, Ok(Outcome::Committed(_))), "{ended:?}");
    }
    let report = store.expire(Selector::ids(others.to_vec())).await.unwrap();
    assert_eq!(report.ended, Some(10));
    store.expire(Selector::user("alice")).await.unwrap();
    store.purge().await.unwrap();
    clock.advance(MINUTE);
    store.purge().await.unwrap();
    assert_eq!(store.stats().await.unwrap().records, 0);
    assert_eq!(fill(&store, 0).await.len(), members.len(), "every byte was given back");
}

/// A store full of members who leave room for one visitor of this size, and its clock.
async fn nearly_full(visitor: usize) -> (MemoryStore, Clock) {
    let clock = Clock::manual(START);
    let store = bounded(&clock, 64 * 1024);
    let place = create(&store, Some("bob"), visitor).await.unwrap();
    fill(&store, 0).await;
    store.expire(Selector::ids([place])).await.unwrap();
    // And so that nothing is remembered of those who found no room.
    clock.advance(MINUTE);
    store.purge().await.unwrap();
    (store, clock)
}

#[tokio::test]
async fn rule_19_visitors_do_not_scan_a_full_store_in_turns() {
    let (store, clock) = nearly_full(1000).await;
    let first = create(&store, None, 1000).await.unwrap();
    let second = create(&store, None, 1000).await.unwrap();
    assert!(!lives(&store, &first).await);
    clock.advance(Duration::from_millis(999));
    assert!(create(&store, None, 1000).await.unwrap_err().is_full());
    assert!(commit(&store, second, Op::Merge(blob(2000))).await.unwrap_err().is_full());
    assert!(lives(&store, &second).await);
    clock.advance(Duration::from_millis(1));
    let third = create(&store, None, 1000).await.unwrap();
    assert!(!lives(&store, &second).await);
    // The clock was set right.
    clock.set(START);
    create(&store, None, 1000).await.unwrap();
    assert!(!lives(&store, &third).await);
}

#[tokio::test]
async fn rule_19_who_signs_in_does_not_wait_for_the_next_scan() {
    let (store, _) = nearly_full(1000).await;
    create(&store, None, 1000).await.unwrap();
    let visitor = create(&store, None, 1000).await.unwrap();
    assert!(create(&store, Some("carol"), 2000).await.unwrap_err().is_full());
    assert!(lives(&store, &visitor).await, "nobody goes in vain");
    let member = create(&store, Some("carol"), 900).await.unwrap();
    assert!(lives(&store, &member).await && !lives(&store, &visitor).await);
    assert!(create(&store, Some("carol"), 900).await.unwrap_err().is_full());
    // What somebody leaves is there at once.
    commit(&store, member, Op::End { by: EndedBy::Application, grace: MINUTE }).await.unwrap();
    create(&store, None, 500).await.unwrap();
}

#[tokio::test]
async fn rule_19_newcomers_find_the_room_of_what_is_over_within_a_second() {
    let clock = Clock::manual(START);
    let store = bounded(&clock, 64 * 1024);
    let remember = Some(Timeouts::new(MINUTE, MINUTE));
    let login = Some(Login { user: "bob".into(), cap: None });
    let draft = Draft { remember, ..blob(1000) };
    commit(&store, id(), Op::Create { realm: None, draft, login }).await.unwrap();
    fill(&store, 0).await;
    clock.advance(MINUTE.saturating_sub(Duration::from_millis(500)));
    for user in [None, Some("carol")] {
        assert!(create(&store, user, 0).await.unwrap_err().is_full());
    }
    clock.advance(Duration::from_millis(500));
    for user in [None, Some("carol")] {
        assert!(create(&store, user, 0).await.unwrap_err().is_full(), "{user:?} scanned again");
    }
    clock.advance(Duration::from_millis(500));
    for user in [None, Some("carol")] {
        create(&store, user, 0).await.unwrap();
    }
}

#[tokio::test]
async fn rule_19_every_byte_is_counted_and_given_back() {
    let clock = Clock::manual(START);
    let store = bounded(&clock, 64 * 1024);
    let fits = fill(&store, 100).await.len();
    for round in 0..50_usize {
        store.expire(Selector::user("alice")).await.unwrap();
        clock.advance(MINUTE);
        store.purge().await.unwrap();
        let one = create(&store, None, 10 * round).await.unwrap();
        let to = id_beside(&one);
        let login = Some(Login { user: "bob".into(), cap: None });
        commit(&store, one, Op::Merge(blob(2000))).await.unwrap();
        store.touch(&one, &Access::at(clock.now()));
        let renew = Op::Renew { new_id: to, draft: blob(round), login, grace: MINUTE };
        commit(&store, one, renew).await.unwrap();
        store.expire(Selector::ids([to])).await.unwrap();
        clock.advance(2 * 24 * 60 * MINUTE);
        store.sweep(Sweep { at: clock.now(), limit: 1000, purge: false }).await.unwrap();
        assert_eq!(store.stats().await.unwrap().records, 0);
    }
    assert_eq!(fill(&store, 100).await.len(), fits);
}

/// Another ID of the same shard.
fn id_beside(other: &SessionId) -> SessionId {
    let mut bytes = *id().as_bytes();
    bytes[..2].copy_from_slice(&other.as_bytes()[..2]);
    SessionId::from_bytes(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rule_19_newcomers_at_the_bound_never_push_a_member_out() {
    let clock = Clock::manual(START);
    let store = bounded(&clock, 256 * 1024);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut members = Vec::new();
                for round in 0..500 {
                    let user = (round % 25 == 0).then_some("alice");
                    let created = create(&store, user, 500 + task).await;
                    if let (Some(_), Ok(id)) = (user, created) {
                        members.push(id);
                    }
                }
                members
            })
        })
        .collect();
    for task in tasks {
        for member in task.await.unwrap() {
            assert!(lives(&store, &member).await);
        }
    }
    let query = Query { filter: Filter::new().any_state(), after: None, limit: 10_000, at: START };
    let sessions = store.page(&query).await.unwrap().sessions;
    let bytes: usize = sessions.iter().map(|session| session.size_bytes).sum();
    assert!(bytes <= 256 * 1024);
}
