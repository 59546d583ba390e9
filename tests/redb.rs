//! The file: what is refused, what survives, what two handles see of each other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use fastsession::record::{Absence, Changes};
use fastsession::store::{
    Access, Commit, Draft, Freshness, Import, KeyChange, Loaded, Login, Op, Outcome, Query,
    RedbStoreBuilder,
};
use fastsession::{
    Clock, EndedBy, Filter, RedbStore, Selector, SessionId, SessionStore, SessionToken, Timestamp,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Fixture {
    dir: TempDir,
    clock: Clock,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Clock::manual(START) }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("sessions.redb")
    }

    fn builder(&self) -> RedbStoreBuilder {
        RedbStore::builder(self.path()).clock(self.clock.clone()).without_sweeping()
    }

    fn open(&self) -> RedbStore {
        self.builder().open().unwrap()
    }

    /// Opens a file that may be refused, or may not.
    fn open_damaged(&self) -> fastsession::Result<RedbStore> {
        self.builder().open()
    }
}

fn id() -> SessionId {
    SessionToken::generate().unwrap().id()
}

fn commit(id: SessionId, op: Op) -> Commit {
    Commit { id, access: Access::at(START), max_data_bytes: 65_536, op }
}

fn draft(key: &str, value: &[u8]) -> Draft {
    let mut changes = Changes::new();
    changes.set(key, value.to_vec()).unwrap();
    Draft { changes, ..Draft::default() }
}

async fn create(store: &RedbStore, user: Option<&str>) -> SessionId {
    let id = id();
    let login = user.map(|user| Login { user: user.into(), cap: None });
    let op = Op::Create { realm: None, draft: draft("k", &[1]), login };
    assert!(matches!(store.commit(commit(id, op)).await.unwrap(), Outcome::Committed(_)));
    id
}

async fn load(store: &RedbStore, id: &SessionId) -> Loaded {
    store.load(id, &Access::at(START)).await.unwrap()
}

#[tokio::test]
async fn rule_03_what_was_answered_is_there_after_reopening() {
    let fixture = Fixture::new();
    for exclusive in [false, true] {
        let open = || {
            let builder = fixture.builder();
            if exclusive { builder.exclusive() } else { builder }.open().unwrap()
        };
        let store = open();
        let id = create(&store, Some("alice")).await;
        let merge = Op::Merge(draft("other", &[2]));
        store.commit(commit(id, merge)).await.unwrap();
        store.close().await.unwrap();
        store.close().await.unwrap();
        assert!(store.load(&id, &Access::at(START)).await.unwrap_err().is_unavailable());

        let store = open();
        let Loaded::Live(record) = load(&store, &id).await else { panic!("not there") };
        assert_eq!(record.data().get("k"), Some(&[1][..]));
        assert_eq!(record.data().get("other"), Some(&[2][..]));
        assert_eq!(record.user(), Some("alice"));
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn two_handles_on_one_file_see_each_others_changes() {
    let fixture = Fixture::new();
    let (one, other) = (fixture.open(), fixture.open());
    let id = create(&one, None).await;
    assert!(matches!(load(&other, &id).await, Loaded::Live(_)));
    other.expire(Selector::ids([id])).await.unwrap();
    assert!(matches!(load(&other, &id).await, Loaded::Absent(Absence::Ended { .. })));
    let late = one.commit(commit(id, Op::Merge(draft("k", &[9])))).await.unwrap();
    assert!(matches!(late, Outcome::Absent(Absence::Ended { by: EndedBy::Application, .. })));
    assert!(matches!(load(&one, &id).await, Loaded::Absent(Absence::Ended { .. })));
}

#[tokio::test]
async fn rule_11_an_ending_of_everyone_is_finished_by_sweeping() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(create(&store, (n % 2 == 0).then_some("alice")).await);
    }
    store.expire(Selector::everyone().except(ids[0])).await.unwrap();
    for id in &ids[1..] {
        assert!(matches!(load(&store, id).await, Loaded::Absent(Absence::Ended { .. })));
    }
    assert!(matches!(load(&store, &ids[0]).await, Loaded::Live(_)));
    let purged = store.purge().await.unwrap();
    assert_eq!(purged.purged, 19);
    assert!(matches!(load(&store, &ids[0]).await, Loaded::Live(_)));
    let query = Query { filter: Filter::new().any_state(), after: None, limit: 100, at: START };
    assert_eq!(store.page(&query).await.unwrap().sessions.len(), 1);
}

#[tokio::test]
async fn a_rotated_key_reaches_every_handle_and_survives() {
    let fixture = Fixture::new();
    let (one, other) = (fixture.open(), fixture.open());
    let before = one.keys(Freshness::Current).await.unwrap();
    let rotate = KeyChange::Rotate { at: START, retire_after: None };
    let after = other.change_keys(rotate).await.unwrap();
    assert_ne!(after.active().id(), before.active().id());
    let seen = one.keys(Freshness::Current).await.unwrap();
    assert_eq!(seen.active().id(), after.active().id());
    drop((one, other));
    let seen = fixture.open().keys(Freshness::Current).await.unwrap();
    assert_eq!(seen.version(), after.version());
}

#[tokio::test]
async fn the_applications_keys_are_not_the_files() {
    let fixture = Fixture::new();
    let own = fastsession::KeyRing::new([fastsession::Key::generate().unwrap()]).unwrap();
    let app = fixture.builder().key_ring(own.clone()).open().unwrap();
    assert_eq!(app.keys(Freshness::Current).await.unwrap().active().id(), own.active().id());
    let tool = fixture.open();
    let error = tool.keys(Freshness::Current).await.unwrap_err();
    assert!(error.is_keys_held_by_application());
    let rotate = KeyChange::Rotate { at: START, retire_after: Some(Duration::ZERO) };
    assert!(tool.change_keys(rotate).await.unwrap_err().is_keys_held_by_application());
}

#[tokio::test]
async fn exclusive_keeps_others_out_and_says_so() {
    let fixture = Fixture::new();
    let app = fixture.builder().exclusive().open().unwrap();
    let error = fixture.builder().open().unwrap_err();
    assert!(error.is_in_use(), "{error:?}");
    app.close().await.unwrap();
    let _shared = fixture.open();
    assert!(fixture.builder().exclusive().open().unwrap_err().is_in_use());
}

#[test]
fn what_is_no_session_file_is_refused_untouched() {
    let fixture = Fixture::new();
    let path = fixture.path();
    let refused = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = fixture.builder().open().unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), content, "{error}");
        error
    };
    assert!(refused(b"").is_invalid());
    assert!(refused(b"hello").is_invalid());
    let error = refused(b"SQLite format 3\0 and so on");
    assert!(error.is_invalid() && error.to_string().contains("SQLite"), "{error}");
    fs::remove_file(&path).unwrap();

    drop(redb::Database::create(&path).unwrap());
    let foreign = fs::read(&path).unwrap();
    let error = refused(&foreign);
    assert!(error.is_invalid() && error.to_string().contains("redb database"), "{error}");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert!(fixture.builder().open().unwrap_err().is_invalid());
    fs::remove_dir(&path).unwrap();

    let target = fixture.dir.path().join("target");
    drop(RedbStore::open(&target).unwrap());
    symlink(&target, &path).unwrap();
    let error = fixture.builder().open().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("symbolic"), "{error}");
}

#[tokio::test]
async fn a_truncated_file_is_refused_untouched() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for _ in 0..50 {
        create(&store, None).await;
    }
    store.close().await.unwrap();
    let path = fixture.path();
    let whole = fs::read(&path).unwrap();
    for len in [10, 64, 512, 4096, 5000, 20_000, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..len]).unwrap();
        let error = fixture.builder().open().unwrap_err();
        assert!(error.is_corrupt(), "{len} of {}: {error:?}", whole.len());
        assert!(fs::read(&path).unwrap() == whole[..len], "{len} was changed");
    }
}

#[test]
fn a_missing_file_is_created_privately_or_refused() {
    let fixture = Fixture::new();
    assert!(fixture.builder().must_exist().open().unwrap_err().is_not_found());
    drop(fixture.builder().create_new().open().unwrap());
    assert_eq!(fs::metadata(fixture.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fixture.builder().create_new().open().unwrap_err().is_invalid());
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 1, "a draft was left");
}

#[test]
fn a_file_open_to_others_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    for mode in [0o604, 0o602, 0o601] {
        fs::set_permissions(fixture.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = fixture.builder().open().unwrap_err();
        assert!(error.is_forbidden() && error.to_string().contains("chmod"), "{error}");
    }
}

#[test]
fn contradictory_options_are_refused() {
    let fixture = Fixture::new();
    let interval = fastsession::Durability::Interval(Duration::from_secs(1));
    assert!(fixture.builder().durability(interval).open().unwrap_err().is_invalid());
    assert!(fixture.builder().mode(0o644).open().unwrap_err().is_invalid());
    fixture.builder().exclusive().durability(interval).open().unwrap();
}

#[tokio::test]
async fn rule_18_a_flipped_bit_is_found_and_never_read_as_data() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut ids = Vec::new();
    for n in 0..200 {
        ids.push(create(&store, (n % 3 == 0).then_some("alice")).await);
    }
    store.close().await.unwrap();
    drop(fixture.builder().verify_on_open().open().unwrap());
    let path = fixture.path();
    let whole = fs::read(&path).unwrap();
    // One bit here and there, in pages of every kind.
    for position in (0..whole.len()).step_by(whole.len() / 41) {
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        fs::write(&path, &bytes).unwrap();
        let verified = fixture.builder().verify_on_open().open();
        fs::write(&path, &bytes).unwrap();
        let Ok(store) = fixture.open_damaged() else { continue };
        for id in &ids {
            match store.load(id, &Access::at(START)).await {
                Ok(Loaded::Live(record)) => assert_eq!(record.data().get("k"), Some(&[1][..])),
                Ok(Loaded::Absent(absence)) => assert!(
                    verified.is_err() || absence == Absence::Corrupt,
                    "byte {position}: {absence:?}, and the walk found nothing"
                ),
                Err(error) => assert!(error.is_store_failure(), "{error:?}"),
            }
        }
        store.close().await.ok();
    }
}

/// Many visitors create sessions with so much data until they are refused.
async fn fill(store: &RedbStore, bytes: usize) -> Vec<SessionId> {
    let mut visitors = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        visitors.spawn(async move {
            let mut ids = Vec::new();
            loop {
                let id = id();
                let op =
                    Op::Create { realm: None, draft: draft("k", &vec![7; bytes]), login: None };
                match store.commit(commit(id, op)).await {
                    Ok(outcome) => assert!(matches!(outcome, Outcome::Committed(_))),
                    Err(error) => {
                        assert!(error.is_full(), "{error}");
                        let loaded = load(&store, &id).await;
                        assert!(matches!(loaded, Loaded::Absent(Absence::NotFound)));
                        return ids;
                    }
                }
                ids.push(id);
            }
        });
    }
    visitors.join_all().await.concat()
}

#[tokio::test]
async fn rule_19_a_full_file_serves_who_is_there_and_newcomers_after_a_purge() {
    const LIMIT: u64 = 8 << 20;
    const BYTES: usize = 1500;
    for exclusive in [false, true] {
        let fixture = Fixture::new();
        let builder = fixture.builder().max_file_bytes(LIMIT);
        let store = if exclusive { builder.exclusive() } else { builder }.open().unwrap();
        let len = || fs::metadata(fixture.path()).unwrap().len();
        // As small as a session can be: its mark is larger than what an ending removes.
        let bare = create(&store, Some("alice")).await;
        let (mut before, mut most) = (0, LIMIT);
        for round in 0..3 {
            let ids = fill(&store, BYTES).await;
            assert!(len() <= most, "{} in round {round}", len());
            assert!(round == 0 || ids.len() > before / 2, "{} after {before}", ids.len());
            before = ids.len();
            for (number, id) in ids.iter().take(50).enumerate() {
                let value = vec![u8::try_from(number % 251).unwrap(); BYTES];
                let op = Op::Merge(draft("k", &value));
                let outcome = store.commit(commit(*id, op)).await.unwrap();
                assert!(matches!(outcome, Outcome::Committed(_)));
            }
            let op = Op::Merge(draft("more", &[7; BYTES]));
            let refused = store.commit(commit(ids[0], op)).await.unwrap_err();
            assert!(refused.is_full(), "{refused}");
            assert!(len() <= most, "{} in round {round}", len());
            if round == 0 {
                let op = Op::End { by: EndedBy::Application, grace: Duration::ZERO };
                let ended = store.commit(commit(bare, op)).await.unwrap();
                assert!(matches!(ended, Outcome::Committed(_)));
                assert!(matches!(load(&store, &bare).await, Loaded::Absent(_)));
            }
            store.expire(Selector::everyone()).await.unwrap();
            store.purge().await.unwrap();
            assert_eq!(store.stats().await.unwrap().records, 0);
            // It may have grown for them, once.
            most = most.max(len()).min(2 * LIMIT);
        }
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn rule_19_free_bytes_are_what_long_values_leave() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (ids, value) = (500, vec![7; 20_000]);
    for _ in 0..ids {
        let op = Op::Create { realm: None, draft: draft("k", &value), login: None };
        store.commit(commit(id(), op)).await.unwrap();
    }
    let stats = store.stats().await.unwrap();
    let used = stats.file_bytes.unwrap() - stats.free_bytes.unwrap();
    assert!(used >= ids * 20_000, "{stats:?}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn rule_19_an_import_holds_to_the_largest_record() {
    let fixture = Fixture::new();
    let (store, other) = (fixture.open(), fastsession::MemoryStore::builder());
    let other = other.clock(fixture.clock.clone()).max_bytes(64 << 20).build().unwrap();
    let (large, small) = (id(), id());
    for (id, bytes) in [(large, 5 << 20), (small, 100)] {
        let op = Op::Create { realm: None, draft: draft("k", &vec![7; bytes]), login: None };
        let commit = Commit { max_data_bytes: 8 << 20, ..commit(id, op) };
        other.commit(commit).await.unwrap();
    }
    let mut records = Vec::new();
    for id in [small, large] {
        records.push((id, other.inspect(&id).await.unwrap().unwrap().record));
    }
    let refused = store.import(Import { records: records.clone() }).await.unwrap_err();
    assert!(refused.is_too_large(), "{refused}");
    assert_eq!(store.stats().await.unwrap().records, 0);
    records.pop();
    assert_eq!(store.import(Import { records }).await.unwrap().imported, 1);
    store.close().await.unwrap();
}
