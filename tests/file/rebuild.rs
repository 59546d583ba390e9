//! `check --repair`, `compact` and `migrate`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fastsession::record::EndedBy;
use fastsession::store::{Access, Commit, Draft, End, Loaded, Op, Target};
use fastsession::{Error, RedbStore, Selector, SessionId, SessionStore, SessionToken};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use crate::check::SESSIONS;
use crate::fixture::{Fixture, START, create, rounds, tool};

pub(crate) fn sound(path: &Path) -> u64 {
    let report = RedbStore::builder(path).check().unwrap();
    assert!(report.is_sound(), "{report:#?}");
    report.records
}

fn tamper(path: &Path, with: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    with(&txn);
    txn.commit().unwrap();
}

pub(crate) async fn filled(fixture: &Fixture, sessions: usize) -> Vec<SessionId> {
    let store = fixture.open();
    let mut ids = Vec::new();
    for number in 0..sessions {
        let user = (number % 2 == 0).then_some("alice");
        ids.push(create(&store, user).await);
    }
    store.close().await.unwrap();
    ids
}

async fn is_live(store: &RedbStore, id: &SessionId) -> bool {
    matches!(store.load(id, &Access::at(START)).await.unwrap(), Loaded::Live(_))
}

#[tokio::test]
async fn a_repair_saves_what_can_be_read_and_keeps_the_rest_aside() {
    let fixture = Fixture::new();
    let path = fixture.path();
    let ids = filled(&fixture, 60).await;
    let keys = tool(&path, &["key", "list", "--json"]).json();
    tool(&path, &["purge", "--reason", "kept"]).with_code(0);
    let before = fs::read(&path).unwrap();
    let idle = tool(&path, &["check", "--repair", "--yes", "--json"]).with_code(0).json();
    assert!(idle["kept"].is_null() && idle["records"] == 60, "{idle}");
    assert!(fs::read(&path).unwrap() == before, "a sound file is left alone");

    tamper(&path, |txn| {
        let mut sessions = txn.open_table(SESSIONS).unwrap();
        sessions.insert(ids[0].as_bytes(), &[1, 2, 3][..]).unwrap();
        sessions.remove(ids[1].as_bytes()).unwrap();
        let users = TableDefinition::<&[u8; 48], ()>::new("users-1");
        txn.open_table(users).unwrap().retain(|_, ()| false).unwrap();
    });
    let asked = tool(&path, &["check", "--repair"]).with_code(2);
    assert!(asked.err.contains("for itself") && asked.err.contains("--yes"), "{}", asked.err);
    let done = tool(&path, &["check", "--repair", "--yes", "--json"]).with_code(0).json();
    let lost: BTreeSet<_> =
        done["lost"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(lost, ids[..2].iter().map(ToString::to_string).collect());
    assert_eq!((&done["records"], &done["everyone_ended"]), (&58.into(), &false.into()));
    let kept = done["kept"].as_str().unwrap();
    assert!(kept.contains("sessions.redb.broken-"), "{kept}");
    tool(Path::new(kept), &["check"]).with_code(5);

    assert_eq!(sound(&path), 58);
    assert_eq!(tool(&path, &["key", "list", "--json"]).json(), keys);
    let log = tool(&path, &["log", "--json"]).json();
    assert_eq!((&log[0]["verb"], &log[1]["reason"]), (&"check --repair".into(), &"kept".into()));
    let store = fixture.open();
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(is_live(&store, id).await, number > 1);
    }
    assert_eq!(store.sessions_of("alice").await.unwrap().len(), 29);
    store.close().await.unwrap();
}

#[tokio::test]
async fn rule_07_a_repair_revives_nobody() {
    for table in ["meta-1", "endings-1"] {
        let fixture = Fixture::new();
        let ids = filled(&fixture, 4).await;
        let store = fixture.open();
        store.expire(Selector::user("alice")).await.unwrap();
        assert!(!is_live(&store, &ids[0]).await);
        store.close().await.unwrap();
        tamper(&fixture.path(), |txn| match table {
            "meta-1" => {
                let mut meta = txn.open_table(TableDefinition::<&str, &[u8]>::new(table)).unwrap();
                meta.insert("state", &[0; 40][..]).unwrap();
            }
            _ => {
                let name = TableDefinition::<&[u8; 16], &[u8]>::new(table);
                let mut endings = txn.open_table(name).unwrap();
                let key = *endings.first().unwrap().unwrap().0.value();
                endings.insert(&key, &[0; 40][..]).unwrap();
            }
        });
        let done = RedbStore::builder(fixture.path()).repair(None).unwrap();
        assert!(done.everyone_ended && done.records == 4, "{done:?}");
        assert_eq!(sound(&fixture.path()), 4);
        let store = fixture.open();
        for id in &ids {
            assert!(!is_live(&store, id).await, "{table}");
        }
        let new = create(&store, Some("alice")).await;
        assert!(is_live(&store, &new).await);
        store.close().await.unwrap();
    }
}

/// redb finds a table by its name, in a page of its own: rot there hides the whole table, and redb
/// makes a new one for whoever writes.
#[tokio::test]
async fn a_cut_file_is_repaired_without_a_word_of_the_engine_s() {
    let fixture = Fixture::new();
    let path = fixture.path();
    filled(&fixture, 200).await;
    let size = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(size / 2).unwrap();
    let refused = tool(&path, &["check"]).with_code(5);
    // What is left may be enough for it to be opened.
    assert!(refused.err.contains("`check --repair`"), "{}", refused.err);
    assert_eq!(refused.err.lines().count(), 3, "{}", refused.err);
    let done = tool(&path, &["check", "--repair", "--yes"]).with_code(0);
    assert!(done.out.contains("the broken file is"), "{}", done.out);
    assert_eq!(done.err, "");
    sound(&path);
}

#[tokio::test]
async fn rule_18_a_table_whose_name_is_damaged_is_missed() {
    for table in ["sessions-2", "deadlines-2", "users-1", "endings-1", "keys-1", "meta-1", "log-1"]
    {
        let fixture = Fixture::new();
        let ids = filled(&fixture, 4).await;
        let store = fixture.open();
        store.expire(Selector::user("alice")).await.unwrap();
        store.close().await.unwrap();
        tamper(&fixture.path(), |txn| hide(txn, table));
        let error = fixture.builder().open().unwrap_err();
        // Without its state it may be a database of somebody else's.
        let foreign = table == "meta-1";
        assert!(error.is_corrupt() || (foreign && error.is_invalid()), "{table}: {error:?}");
        if !foreign {
            tool(&fixture.path(), &["stats"]).with_code(5);
            tool(&fixture.path(), &["check"]).with_code(5);
            let done = RedbStore::builder(fixture.path()).repair(None).unwrap();
            assert_eq!(done.everyone_ended, table == "endings-1", "{table}: {done:?}");
            assert_eq!(sound(&fixture.path()), done.records);
            let store = fixture.open();
            for id in ids.iter().step_by(2) {
                assert!(!is_live(&store, id).await, "{table}");
            }
            store.close().await.unwrap();
        }
    }
}

/// A store with a session of alice's that was ended, whose table of endings is damaged meanwhile.
async fn losing_endings(fixture: &Fixture) -> (Vec<SessionId>, RedbStore, Database) {
    let ids = filled(fixture, 4).await;
    let store = fixture.open();
    store.expire(Selector::user("alice")).await.unwrap();
    let mut neighbour = Database::builder();
    neighbour.set_concurrency_mode(redb::ConcurrencyMode::MultiWriter);
    let neighbour = neighbour.create(fixture.path()).unwrap();
    let txn = neighbour.begin_write().unwrap();
    hide(&txn, "endings-1");
    txn.commit().unwrap();
    (ids, store, neighbour)
}

async fn assert_not_made_anew(ids: &[SessionId], store: &RedbStore, neighbour: &Database) {
    for id in ids.iter().step_by(2) {
        let loaded = store.load(id, &Access::at(START)).await;
        assert!(!matches!(loaded, Ok(Loaded::Live(_))), "{loaded:?}");
    }
    let txn = neighbour.begin_read().unwrap();
    assert!(!txn.list_tables().unwrap().any(|table| table.name() == "endings-1"));
}

#[tokio::test]
async fn rule_18_a_writer_misses_the_endings_too() {
    let fixture = Fixture::new();
    let (ids, store, neighbour) = losing_endings(&fixture).await;
    let (target, by) = (Target::User("bob".into()), EndedBy::Application);
    let ended = store.end(End { target, except: None, by, at: START }).await;
    assert!(ended.as_ref().is_err_and(Error::is_corrupt), "{ended:?}");
    assert_not_made_anew(&ids, &store, &neighbour).await;
}

/// A batch is committed for those who look for no ending, though others in it fail.
#[tokio::test]
async fn rule_18_a_batch_does_not_make_the_endings_anew() {
    let fixture = Fixture::new();
    let (ids, store, neighbour) = losing_endings(&fixture).await;
    let merges = ids.iter().map(|id| (*id, Op::Merge(Draft::default())));
    let creations = (0..20).map(|_| {
        let id = SessionToken::generate().unwrap().id();
        (id, Op::Create { realm: None, draft: Draft::default(), login: None })
    });
    let answers: Vec<_> = merges
        .chain(creations)
        .map(|(id, op)| Commit { id, access: Access::at(START), max_data_bytes: 65_536, op })
        .map(|commit| store.commit(commit))
        .collect();
    for (number, answer) in answers.into_iter().enumerate() {
        let answer = answer.await;
        assert!(number >= ids.len() || answer.is_err(), "{answer:?}");
    }
    assert_not_made_anew(&ids, &store, &neighbour).await;
}

fn hide(txn: &redb::WriteTransaction, table: &str) {
    let hidden = format!("{table}?");
    let (old, new) = (table, hidden.as_str());
    match old {
        "sessions-2" => txn.rename_table(SESSIONS, TableDefinition::<&[u8; 32], &[u8]>::new(new)),
        "deadlines-2" => txn.rename_table(
            TableDefinition::<&[u8; 37], ()>::new(old),
            TableDefinition::<&[u8; 37], ()>::new(new),
        ),
        "users-1" => txn.rename_table(
            TableDefinition::<&[u8; 48], ()>::new(old),
            TableDefinition::<&[u8; 48], ()>::new(new),
        ),
        "endings-1" => txn.rename_table(
            TableDefinition::<&[u8; 16], &[u8]>::new(old),
            TableDefinition::<&[u8; 16], &[u8]>::new(new),
        ),
        "log-1" => txn.rename_table(
            TableDefinition::<u64, &[u8]>::new(old),
            TableDefinition::<u64, &[u8]>::new(new),
        ),
        _ => txn.rename_table(
            TableDefinition::<&str, &[u8]>::new(old),
            TableDefinition::<&str, &[u8]>::new(new),
        ),
    }
    .unwrap();
}

#[tokio::test]
async fn bits_flipped_anywhere_are_mended() {
    let fixture = Fixture::new();
    filled(&fixture, 300).await;
    let bytes = fs::read(fixture.path()).unwrap();
    let path = fixture.dir.path().join("flipped.redb");
    let flips = rounds("FASTSESSION_FLIPS", 150) / 3;
    let (mut mended, mut saved) = (0, 0);
    for flip in 0..flips {
        let bit = flip * (bytes.len() * 8 / flips) + (flip * 7919) % 4096;
        let mut flipped = bytes.clone();
        flipped[(bit / 8) % bytes.len()] ^= 1 << (bit % 8);
        let _ = fs::remove_file(&path);
        fs::write(&path, flipped).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        match RedbStore::builder(&path).repair(None) {
            Ok(done) => {
                mended += u64::from(done.kept.is_some());
                saved += done.records;
                assert_eq!(sound(&path), done.records, "bit {bit}");
                if let Some(kept) = done.kept {
                    fs::remove_file(kept).unwrap();
                }
            }
            // Nothing of it can be opened, or it is no session file any more.
            Err(error) => assert!(
                error.is_corrupt() || error.is_invalid() || error.is_version_mismatch(),
                "bit {bit}: {error:?}"
            ),
        }
    }
    println!("{flips} bits, {mended} files mended, {saved} records saved of {}", flips * 300);
}

#[tokio::test]
async fn compacting_needs_the_file_alone_and_changes_nothing_but_its_size() {
    let fixture = Fixture::new();
    let path = fixture.path();
    filled(&fixture, 2000).await;
    let store = fixture.open();
    let keep = create(&store, Some("bob")).await;
    store.expire(Selector::user("alice")).await.unwrap();
    let in_use = tool(&path, &["compact", "--reason", "x"]).with_code(4);
    assert!(in_use.err.contains("held by another process"), "{}", in_use.err);
    assert!(in_use.err.contains("no process can open"), "{}", in_use.err);
    store.purge().await.unwrap();
    store.close().await.unwrap();
    let listed = tool(&path, &["list", "--state", "all", "--json"]).json();
    let done = tool(&path, &["compact", "--json"]).with_code(0).json();
    let [before, after] = ["bytes_before", "bytes_after"].map(|name| done[name].as_u64().unwrap());
    println!("compacted from {before} to {after} bytes");
    assert!(after < before && after == fs::metadata(&path).unwrap().len(), "{done}");
    assert_eq!(tool(&path, &["list", "--state", "all", "--json"]).json(), listed);
    assert_eq!(sound(&path), 1001);
    let log = tool(&path, &["log", "--json"]).json();
    assert_eq!(log[0]["verb"], "compact");
    let store = fixture.open();
    assert!(is_live(&store, &keep).await);
    store.close().await.unwrap();
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_damaged_file_is_not_compacted() {
    let fixture = Fixture::new();
    let ids = filled(&fixture, 3).await;
    tamper(&fixture.path(), |txn| {
        let mut sessions = txn.open_table(SESSIONS).unwrap();
        sessions.insert(ids[0].as_bytes(), &[1][..]).unwrap();
    });
    let before = fs::read(fixture.path()).unwrap();
    tool(&fixture.path(), &["compact"]).with_code(5);
    assert!(fs::read(fixture.path()).unwrap() == before);
}

#[tokio::test]
async fn a_file_of_this_schema_has_nothing_to_migrate() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let done = tool(&fixture.path(), &["migrate", "--json"]).with_code(0).json();
    assert_eq!(done["from"], done["to"]);
    assert_eq!(store.log(9).await.unwrap(), []);
    let said = tool(&fixture.path(), &["migrate"]).with_code(0).out;
    assert!(said.contains("already"), "{said}");
    store.close().await.unwrap();
}
