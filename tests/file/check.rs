//! `check`: what is damaged is found, nothing is changed, and nobody is held up.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fastsession::store::{CheckReport, Damage, KeyChange, Note, Sweep, Tally};
use fastsession::{RedbStore, Selector, SessionId, SessionStore};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::fixture::{Fixture, START, create, rounds, tool};

pub(crate) const SESSIONS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("sessions-2");
const DEADLINES: TableDefinition<&[u8; 37], ()> = TableDefinition::new("deadlines-2");
const USERS: TableDefinition<&[u8; 48], ()> = TableDefinition::new("users-1");

fn check(path: &Path) -> CheckReport {
    RedbStore::builder(path).check().unwrap()
}

fn found(report: &CheckReport) -> Vec<(Damage, Option<SessionId>)> {
    report.findings.iter().map(|finding| (finding.damage, finding.id)).collect()
}

/// A closed file with something in each table.
async fn filled(fixture: &Fixture, sessions: usize) -> Vec<SessionId> {
    let store = fixture.open();
    let mut ids = Vec::new();
    for number in 0..sessions {
        let user = (number % 2 == 0).then(|| format!("user {}", number % 8));
        ids.push(create(&store, user.as_deref()).await);
    }
    store.expire(Selector::user("user 6")).await.unwrap();
    store.change_keys(KeyChange::Rotate { at: START, retire_after: None }).await.unwrap();
    let noted = store.noting(&Note::new("expire", START)).unwrap();
    noted.noted(Tally::default()).await.unwrap();
    store.close().await.unwrap();
    ids
}

/// Does something to the tables behind the store's back.
fn tamper(path: &Path, with: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    with(&txn);
    txn.commit().unwrap();
}

#[tokio::test]
async fn a_sound_file_is_found_sound_and_not_a_byte_is_changed() {
    let fixture = Fixture::new();
    filled(&fixture, 300).await;
    let before = fs::read(fixture.path()).unwrap();
    let report = check(&fixture.path());
    assert_eq!((report.records, found(&report)), (300, vec![]));
    let ran = tool(&fixture.path(), &["check"]).with_code(0);
    assert_eq!(ran.out, "");
    assert!(ran.err.contains("300 records"), "{}", ran.err);
    assert_eq!(tool(&fixture.path(), &["check", "--json"]).with_code(0).out, "[]\n");
    assert!(fs::read(fixture.path()).unwrap() == before);
}

#[tokio::test]
async fn a_file_in_use_and_one_that_a_crash_left_are_found_sound() {
    let fixture = Fixture::new();
    let store = fixture.open();
    create(&store, Some("alice")).await;
    let left = fixture.dir.path().join("left.redb");
    fs::copy(fixture.path(), &left).unwrap();
    for path in [fixture.path(), left] {
        let before = fs::read(&path).unwrap();
        let report = check(&path);
        assert_eq!((report.records, found(&report)), (1, vec![]), "{}", path.display());
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[tokio::test]
async fn a_file_held_exclusively_is_in_use() {
    let fixture = Fixture::new();
    let store = fixture.builder().exclusive().open().unwrap();
    let error = RedbStore::builder(fixture.path()).check().unwrap_err();
    assert!(error.is_in_use(), "{error:?}");
    let ran = tool(&fixture.path(), &["check"]).with_code(4);
    assert!(ran.err.contains("held exclusively by another process"), "{}", ran.err);
    drop(store);
}

#[tokio::test]
async fn what_is_no_session_file_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let none = tool(&path, &["check"]).with_code(1);
    assert!(none.err.contains("there is no database") && none.err.contains("--db"), "{}", none.err);
    assert!(!path.exists());
    let directory = tool(dir.path(), &["check"]).with_code(1);
    assert!(directory.err.contains("is a directory"), "{}", directory.err);
    let fifo = dir.path().join("fifo");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, 0o600.into(), 0).unwrap();
    let fifo = tool(&fifo, &["check"]).with_code(1);
    assert!(fifo.err.contains("is not a regular file"), "{}", fifo.err);
}

#[tokio::test]
async fn every_row_made_to_vanish_is_named() {
    let fixture = Fixture::new();
    let ids = filled(&fixture, 200).await;
    tamper(&fixture.path(), |txn| {
        let mut sessions = txn.open_table(SESSIONS).unwrap();
        sessions.retain(|_, _| false).unwrap();
    });
    let report = check(&fixture.path());
    let expected: BTreeSet<_> = ids.iter().map(|id| (Damage::Missing, Some(*id))).collect();
    assert_eq!(found(&report).into_iter().collect::<BTreeSet<_>>(), expected);
    let ran = tool(&fixture.path(), &["check", "--format", "ids"]).with_code(5);
    let mut named: Vec<_> = ran.out.lines().collect();
    named.sort_unstable();
    let mut all: Vec<_> = ids.iter().map(ToString::to_string).collect();
    all.sort_unstable();
    assert_eq!(named, all);
    assert!(ran.err.contains("200 missing") && ran.err.contains("--repair"), "{}", ran.err);
}

#[tokio::test]
async fn indexes_and_records_are_held_against_each_other() {
    let fixture = Fixture::new();
    let ids = filled(&fixture, 4).await;
    let stranger = SessionId::from_bytes([7; 32]);
    tamper(&fixture.path(), |txn| {
        let mut deadlines = txn.open_table(DEADLINES).unwrap();
        // The first byte of an ID leads its key, the others end it.
        let (part, rest) = ids[1].as_bytes().split_at(1);
        deadlines.retain(|key, ()| key[..1] != *part || key[6..] != *rest).unwrap();
        let mut wrong = [0; 37];
        let (part, rest) = ids[2].as_bytes().split_at(1);
        wrong[..1].copy_from_slice(part);
        wrong[6..].copy_from_slice(rest);
        deadlines.insert(&wrong, ()).unwrap();
        let mut users = txn.open_table(USERS).unwrap();
        users.retain(|key, ()| key[16..] != ids[0].as_bytes()[..]).unwrap();
        let mut unknown = [0; 48];
        unknown[16..].copy_from_slice(stranger.as_bytes());
        users.insert(&unknown, ()).unwrap();
        let mut sessions = txn.open_table(SESSIONS).unwrap();
        let value = sessions.get(ids[0].as_bytes()).unwrap().unwrap().value().to_vec();
        // Under another's ID.
        sessions.insert(ids[3].as_bytes(), value.as_slice()).unwrap();
    });
    let expected = BTreeSet::from([
        (Damage::Unindexed, Some(ids[0])),
        (Damage::Unindexed, Some(ids[1])),
        (Damage::Stray, Some(ids[2])),
        (Damage::Corrupt, Some(ids[3])),
        (Damage::Missing, Some(stranger)),
    ]);
    let report = check(&fixture.path());
    assert_eq!(found(&report).into_iter().collect::<BTreeSet<_>>(), expected, "{report:#?}");
    let rows = tool(&fixture.path(), &["check", "--json"]).with_code(5).json();
    assert_eq!(rows.as_array().unwrap().len(), 5);
    assert!(rows.as_array().unwrap().iter().any(|row| row["damage"] == "corrupt"
        && row["id"] == ids[3].to_string()
        && row["detail"].is_string()));
    let error = fixture.builder().verify_on_open().open().unwrap_err();
    assert!(error.is_corrupt(), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("1 corrupt") && told.contains("2 unindexed"), "{told}");
}

/// The keys of the index by user.
fn entries_by_user(path: &Path) -> Vec<[u8; 48]> {
    let database = Database::create(path).unwrap();
    let txn = database.begin_read().unwrap();
    let users = txn.open_table(USERS).unwrap();
    users.iter().unwrap().map(|entry| *entry.unwrap().0.value()).collect()
}

#[tokio::test]
async fn the_index_by_user_holds_what_was_not_ended() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (out, stays) = (create(&store, Some("alice")).await, create(&store, Some("alice")).await);
    create(&store, Some("bob")).await;
    store.close().await.unwrap();
    let before = entries_by_user(&fixture.path());
    assert_eq!(before.len(), 3);
    let store = fixture.open();
    store.expire(Selector::ids([out])).await.unwrap();
    store.expire(Selector::user("bob")).await.unwrap();
    let sweep = Sweep { at: START, limit: 100, purge: false };
    while store.sweep(sweep).await.unwrap().more {}
    store.close().await.unwrap();
    for rebuilt in [false, true] {
        if rebuilt {
            fixture.builder().compact(None).unwrap();
        }
        let left = entries_by_user(&fixture.path());
        assert!(left.len() == 1 && left[0].ends_with(stays.as_bytes()), "rebuilt: {rebuilt}");
        assert!(check(&fixture.path()).is_sound());
    }
    tamper(&fixture.path(), |txn| {
        let entry = before.iter().find(|entry| entry.ends_with(out.as_bytes())).unwrap();
        txn.open_table(USERS).unwrap().insert(entry, ()).unwrap();
    });
    assert_eq!(found(&check(&fixture.path())), [(Damage::Stray, Some(out))]);
}

#[tokio::test]
async fn keys_state_endings_and_log_are_looked_at() {
    let fixture = Fixture::new();
    filled(&fixture, 2).await;
    tamper(&fixture.path(), |txn| {
        for table in ["keys-1", "meta-1"] {
            let mut table = txn.open_table(TableDefinition::<&str, &[u8]>::new(table)).unwrap();
            let key = table.first().unwrap().unwrap().0.value().to_owned();
            table.insert(&*key, &[1, 2, 3][..]).unwrap();
        }
        let endings = TableDefinition::<&[u8; 16], &[u8]>::new("endings-1");
        txn.open_table(endings).unwrap().insert(&[1; 16], &[1][..]).unwrap();
        let log = TableDefinition::<u64, &[u8]>::new("log-1");
        txn.open_table(log).unwrap().insert(77, &[1][..]).unwrap();
    });
    // A file whose state cannot be read is refused by every other verb.
    let report = check(&fixture.path());
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.damage).collect();
    assert_eq!(kinds, [Damage::State, Damage::Keys, Damage::Ending, Damage::Log], "{report:#?}");
}

/// What redb reads of the records, and whether it could read them all.
fn readable(path: &Path) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let read = || {
        let database = Database::create(path).ok()?;
        let txn = database.begin_read().ok()?;
        let sessions = txn.open_table(SESSIONS).ok()?;
        let len = sessions.len().ok()?;
        let rows: Vec<_> = sessions
            .iter()
            .ok()?
            .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).ok())
            .collect::<Option<_>>()?;
        (rows.len() as u64 == len).then_some(rows)
    };
    std::panic::catch_unwind(read).ok().flatten()
}

/// `FASTSESSION_FLIPS` says how many bits are flipped, one at a time.
#[tokio::test]
async fn rule_18_a_flipped_bit_is_found_or_has_changed_nothing() {
    let fixture = Fixture::new();
    let ids = filled(&fixture, 600).await;
    let whole = readable(&fixture.path()).unwrap();
    let bytes = fs::read(fixture.path()).unwrap();
    let path = fixture.dir.path().join("flipped.redb");
    let (mut damaged, mut named, mut vanished) = (0, 0, 0);
    let flips = rounds("FASTSESSION_FLIPS", 150);
    for flip in 0..flips {
        let bit = flip * (bytes.len() * 8 / flips) + flip % 8;
        fs::write(&path, &bytes).unwrap();
        chmod(&path);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[bytes[bit / 8] ^ (1 << (bit % 8))], (bit / 8) as u64).unwrap();
        drop(file);
        let report = match RedbStore::builder(&path).check() {
            Ok(report) => report,
            // Of another format, or version, by now.
            Err(error) => {
                assert!(error.is_invalid() || error.is_version_mismatch(), "{bit}: {error:?}");
                continue;
            }
        };
        if report.is_sound() {
            assert_eq!(report.records, 600, "bit {bit}");
            assert!(readable(&path).as_ref() == Some(&whole), "bit {bit} has changed something");
            continue;
        }
        damaged += 1;
        let known: BTreeSet<_> = report.findings.iter().filter_map(|finding| finding.id).collect();
        named += usize::from(!known.is_empty());
        // What cannot be read is named.
        let gone = ids.len().saturating_sub(usize::try_from(report.records).unwrap());
        vanished += gone;
        let blind =
            report.findings.iter().any(|finding| finding.detail.starts_with("nothing can be read"));
        if !blind && report.records > 0 {
            assert!(known.len() >= gone, "bit {bit}: {gone} are gone, {report:#?}");
        }
    }
    println!("{flips} bits: {damaged} damaged something, {named} named sessions, {vanished} gone");
    assert!(damaged > flips / 10 && vanished > 0, "nearly nothing was hit");
}

fn chmod(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// What the header says is wrong, or one that nothing can be read of: never "not available", for
/// which one would wait.
#[tokio::test]
async fn rule_18_a_damaged_header_is_told_as_damage() {
    let fixture = Fixture::new();
    filled(&fixture, 30).await;
    let whole = fs::read(fixture.path()).unwrap();
    let mut found = 0;
    for place in 0..crate::pages::HEADER_BYTES {
        for mask in [0xff, 1 << (place % 8)] {
            let mut bytes = whole.clone();
            bytes[place] ^= mask;
            fs::write(fixture.path(), &bytes).unwrap();
            match RedbStore::builder(fixture.path()).check() {
                Ok(report) => found += usize::from(!report.is_sound()),
                Err(error) => {
                    let told = error.is_corrupt() || error.is_invalid();
                    assert!(told || error.is_version_mismatch(), "byte {place}: {error:?}");
                    found += 1;
                }
            }
        }
    }
    assert!(found > 100, "{found}");
}
