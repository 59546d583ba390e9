use std::sync::mpsc;

use super::*;
use crate::expiry::{Timeouts, Timestamp};
use crate::record::{Changes, EndedBy};
use crate::store::{DEFAULT_MAX_DATA_BYTES, Draft, Login};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn store(clock: &Clock, max_bytes: usize) -> MemoryStore {
    let builder = MemoryStore::builder().clock(clock.clone()).max_bytes(max_bytes);
    builder.sweep_interval(DAY).build().unwrap()
}

/// An ID of this shard.
fn id_in(shard: u8) -> SessionId {
    let mut bytes = [0; SessionId::LEN];
    getrandom::fill(&mut bytes).unwrap();
    bytes[0] = shard;
    SessionId::from_bytes(bytes)
}

/// A session with so much data, of `user` or of a visitor.
fn new(bytes: usize, user: Option<&str>) -> Op {
    let mut changes = Changes::new();
    changes.set("blob", vec![0; bytes]).unwrap();
    let login = user.map(|user| Login { user: user.into(), cap: None });
    Op::Create { realm: None, draft: Draft { changes, ..Draft::default() }, login }
}

fn try_commit(store: &MemoryStore, id: SessionId, op: Op) -> Result<Outcome> {
    let access = Access::at(store.inner.clock.now());
    store.inner.commit(&Commit { id, access, max_data_bytes: DEFAULT_MAX_DATA_BYTES, op })
}

fn create(store: &MemoryStore, shard: u8) -> SessionId {
    let id = id_in(shard);
    try_commit(store, id, new(0, None)).unwrap();
    id
}

fn records(store: &MemoryStore) -> usize {
    store.inner.shards.iter().map(|shard| shard.read().rows.len()).sum()
}

/// Sessions of the default timeouts that came now are due.
fn when_due(clock: &Clock) -> Timestamp {
    clock.now().saturating_add(Timeouts::default().idle).saturating_add(crate::store::SWEEP_DELAY)
}

/// Nowhere are there many more entries in the index than rows.
fn the_index_is_small(store: &MemoryStore) {
    for shard in &store.inner.shards {
        let shard = shard.read();
        let (entries, rows) = (shard.deadlines.entries(), shard.rows.len());
        assert!(entries <= 2 * rows + 32, "{entries} entries for {rows} rows");
    }
}

/// What is left leaves by itself.
fn all_is_swept(store: &MemoryStore) {
    let at = when_due(&store.inner.clock);
    store.inner.sweep(Sweep { at, limit: usize::MAX, purge: false });
    assert_eq!(records(store), 0);
    assert!(store.inner.shards.iter().all(|shard| shard.read().deadlines.entries() == 0));
}

#[test]
fn rule_19_the_index_forgets_who_was_evicted() {
    let clock = Clock::manual(START);
    let store = store(&clock, 64 * 1024);
    for _ in 0..5000 {
        clock.advance(SECOND);
        create(&store, 0);
        the_index_is_small(&store);
    }
    // One who needs the room of most of them.
    try_commit(&store, id_in(1), new(50_000, None)).unwrap();
    assert!(records(&store) < 200);
    the_index_is_small(&store);
    all_is_swept(&store);
}

#[test]
fn rule_19_the_index_forgets_later_deadlines() {
    let clock = Clock::manual(START);
    let store = store(&clock, usize::MAX);
    let [id, ..] = [(); 10].map(|()| create(&store, 0));
    for minutes in (60..1000).rev().step_by(5) {
        let timeout = Duration::from_secs(60 * minutes);
        let remember = Some(Timeouts::new(timeout, timeout));
        try_commit(&store, id, Op::Merge(Draft { remember, ..Draft::default() })).unwrap();
        the_index_is_small(&store);
    }
    all_is_swept(&store);
}

#[test]
fn rule_19_the_index_forgets_what_an_operator_removed() {
    let clock = Clock::manual(START);
    let store = store(&clock, usize::MAX);
    let mut ids: Vec<_> = (0..200).map(|_| create(&store, 0)).collect();
    for id in &ids {
        let op = Op::End { by: EndedBy::Application, grace: Duration::ZERO };
        try_commit(&store, *id, op).unwrap();
    }
    ids.truncate(190);
    let filter = crate::Filter::new().any_state();
    let removed = store.inner.remove_some(&Remove { ids, filter, at: clock.now() });
    assert_eq!(removed.unwrap().removed, 190);
    the_index_is_small(&store);
    all_is_swept(&store);
}

#[test]
fn rule_15_a_step_that_has_reached_its_limit_leaves_the_rest_alone() {
    let clock = Clock::manual(START);
    let store = store(&clock, usize::MAX);
    for _ in 0..3 {
        create(&store, 0);
    }
    create(&store, 1);
    let at = when_due(&clock);
    let step = move |store: &MemoryStore| store.inner.sweep(Sweep { at, limit: 2, purge: false });
    // Would a step go for a shard beyond, it would wait for this.
    let beyond = store.inner.shards[1].read();
    let (tell, told) = mpsc::channel();
    let sweeping = store.clone();
    std::thread::spawn(move || tell.send(step(&sweeping)));
    let swept = told.recv_timeout(60 * SECOND).unwrap();
    assert_eq!(swept, Swept { removed: 2, more: true });
    drop(beyond);
    assert_eq!(step(&store), Swept { removed: 2, more: false });
    assert_eq!(records(&store), 0);
}

#[test]
fn rule_15_steps_go_round_all_shards_and_end_with_what_is_due() {
    let clock = Clock::manual(START);
    let store = store(&clock, usize::MAX);
    for shard in 0..=u8::MAX {
        create(&store, shard);
    }
    let due = when_due(&clock);
    // These are filed with the others, and are not due with them.
    clock.advance(SECOND);
    for shard in 0..=u8::MAX {
        create(&store, shard);
    }
    for (at, left) in [(due, 256), (due.saturating_add(SECOND), 0)] {
        for step in 1..=16 {
            let swept = store.inner.sweep(Sweep { at, limit: 16, purge: false });
            assert_eq!(swept, Swept { removed: 16, more: step < 16 });
        }
        assert_eq!(records(&store), left);
    }
}

/// A value of the same length is written into the row itself, which those who were given it before
/// must not see.
#[test]
fn a_record_that_was_handed_out_stays_as_it_was() {
    let store = store(&Clock::manual(START), usize::MAX);
    let id = create(&store, 0);
    let set = |n: u8| {
        let mut changes = Changes::new();
        changes.set("n", vec![n]).unwrap();
        let draft = Draft { changes, ..Draft::default() };
        let committed = try_commit(&store, id, Op::MergeUnseen { realm: None, draft }).unwrap();
        let Outcome::Committed(record) = committed else { panic!("{committed:?}") };
        record
    };
    let value = |record: &Record| record.data().get("n").map(<[u8]>::to_vec);
    drop(set(1));
    let second = set(2);
    let (loaded, _) = store.inner.row(&id).unwrap();
    let third = set(3);
    assert_eq!([&second, &loaded, &third].map(value), [2, 2, 3].map(|n| Some(vec![n])));
    assert_eq!([&loaded, &third].map(Record::version), [3, 4]);
    let place = |record: &Record| record.as_bytes().as_ptr();
    let written = place(&third);
    drop((second, loaded, third));
    let fourth = set(4);
    assert_eq!((value(&fourth), place(&fourth)), (Some(vec![4]), written), "nobody had it");
}
