//! `backup` and `restore`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastsession::record::Changes;
use fastsession::store::{Access, Commit, Draft, Op, Outcome};
use fastsession::{RedbStore, SessionId, SessionStore, SessionToken};

use crate::fixture::{Fixture, START, create, rounds, tool};

fn set(id: SessionId, value: u64, create: bool) -> Commit {
    let mut changes = Changes::new();
    changes.set("n", value.to_be_bytes().to_vec()).unwrap();
    let draft = Draft { changes, ..Draft::default() };
    let op = if create { Op::Create { realm: None, draft, login: None } } else { Op::Merge(draft) };
    Commit { id, access: Access::at(START), max_data_bytes: 65_536, op }
}

async fn value(store: &RedbStore, id: &SessionId) -> u64 {
    let record = store.inspect(id).await.unwrap().unwrap().record;
    u64::from_be_bytes(record.data().get("n").unwrap().try_into().unwrap())
}

/// Each writer has a pair of sessions, sets the first to n, then the second, then both to n + 1 …;
/// so at every moment first and second differ by at most one, the first ahead, and what was
/// answered before the copy began is in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_at_full_speed_is_one_moment_of_the_original() {
    const WRITERS: usize = 64;
    let fixture = Fixture::new();
    let store = fixture.open();
    for _ in 0..2000 {
        create(&store, Some("crowd")).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicU64::new(0));
    let mut pairs = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let pair = [(); 2].map(|()| SessionToken::generate().unwrap().id());
        for id in pair {
            let made = store.commit(set(id, 0, true)).await.unwrap();
            assert!(matches!(made, Outcome::Committed(_)));
        }
        let answered = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        pairs.push((pair, answered.clone()));
        let (store, stop, commits) = (store.clone(), stop.clone(), commits.clone());
        writers.push(tokio::spawn(async move {
            for n in 1_u64.. {
                for (id, answered) in pair.iter().zip(&*answered) {
                    store.commit(set(*id, n, false)).await.unwrap();
                    answered.store(n, Ordering::SeqCst);
                    commits.fetch_add(1, Ordering::Relaxed);
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }));
    }
    for round in 0..rounds("FASTSESSION_BACKUPS", 5) {
        let to = fixture.dir.path().join(format!("copy-{round}.redb"));
        let before: Vec<_> =
            pairs.iter().map(|(_, n)| [0, 1].map(|at| n[at].load(Ordering::SeqCst))).collect();
        let (len, done) =
            (fs::metadata(fixture.path()).unwrap().len(), commits.load(Ordering::Relaxed));
        let began = Instant::now();
        let (path, target) = (fixture.path(), to.clone());
        let made = tokio::task::spawn_blocking(move || RedbStore::builder(path).backup(target));
        let made = made.await.unwrap().unwrap();
        let took = began.elapsed();
        let after: Vec<_> =
            pairs.iter().map(|(_, n)| [0, 1].map(|at| n[at].load(Ordering::SeqCst))).collect();
        let grown = fs::metadata(fixture.path()).unwrap().len().saturating_sub(len);
        let rate =
            u128::from(commits.load(Ordering::Relaxed) - done) * 1_000_000 / took.as_micros();
        println!(
            "{} KiB in {took:?} at {rate} commits/s; the file grew by {} KiB",
            made.bytes / 1024,
            grown / 1024
        );
        assert_eq!(made.records, 2000 + 2 * WRITERS as u64);
        assert!(grown <= 64 << 20, "grown by {grown} bytes");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        let report = RedbStore::builder(&to).check().unwrap();
        assert!(report.is_sound(), "{report:#?}");
        let copy =
            RedbStore::builder(&to).must_exist().clock(fixture.clock.clone()).open().unwrap();
        for ((pair, _), (before, after)) in pairs.iter().zip(before.iter().zip(&after)) {
            let [first, second] = [value(&copy, &pair[0]).await, value(&copy, &pair[1]).await];
            assert!(first == second || first == second + 1, "{first} and {second}");
            // Committed may be one more than answered.
            for (at, value) in [first, second].into_iter().enumerate() {
                assert!(before[at] <= value && value <= after[at] + 1);
            }
        }
        copy.close().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_backup_never_takes_anothers_place() {
    let fixture = Fixture::new();
    fixture.open().close().await.unwrap();
    let before = fs::read(fixture.path()).unwrap();
    let in_dir = |name: &str| fixture.dir.path().join(name);
    fs::write(in_dir("there"), "mine").unwrap();
    symlink(in_dir("nowhere"), in_dir("link")).unwrap();
    for name in ["there", "link", "sessions.redb", "."] {
        let to = in_dir(name);
        let ran = tool(&fixture.path(), &["backup", to.to_str().unwrap()]).with_code(1);
        assert!(ran.err.contains("exists already"), "{}", ran.err);
    }
    let to = in_dir("no/such/folder");
    tool(&fixture.path(), &["backup", to.to_str().unwrap()]).with_code(1);
    assert_eq!(fs::read(in_dir("there")).unwrap(), b"mine");
    assert!(!in_dir("nowhere").exists());
    assert!(fs::read(fixture.path()).unwrap() == before);
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 3);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_to_a_full_disk_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for _ in 0..200 {
        create(&store, None).await;
    }
    let disk = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "fastsession-test"])
        .arg(disk.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("FASTSESSION_REQUIRE_ALL").is_none(), "cannot mount");
        return eprintln!("SKIPPED: a filesystem cannot be mounted; that needs root");
    }
    let to = disk.path().join("copy.redb");
    let error = RedbStore::builder(fixture.path()).backup(&to).unwrap_err();
    let ran = tool(&fixture.path(), &["backup", to.to_str().unwrap()]);
    let left = names(disk.path());
    Command::new("umount").arg("-l").arg(disk.path()).status().unwrap();
    assert!(error.is_full(), "{error:?}");
    assert!(ran.code == 1 && ran.err.contains("cannot be created"), "{ran:?}");
    assert!(left.is_empty(), "{left:?}");
    create(&store, None).await;
    assert!(RedbStore::builder(fixture.path()).check().unwrap().is_sound());
    store.close().await.unwrap();
}

#[tokio::test]
async fn restoring_asks_keeps_the_former_file_and_revives_what_was_ended() {
    let fixture = Fixture::new();
    let path = fixture.path();
    let store = fixture.open();
    let id = create(&store, Some("alice")).await.to_string();
    let copy = fixture.dir.path().join("copy.redb");
    let copy = copy.to_str().unwrap();
    let made = tool(&path, &["backup", copy, "--json"]).with_code(0).json();
    assert_eq!((&made["records"], &made["path"]), (&1.into(), &copy.into()));
    tool(&path, &["expire", &id]).with_code(0);

    let in_use = tool(&path, &["restore", copy, "--yes"]).with_code(4);
    let own = format!("process {} (", std::process::id());
    assert!(in_use.err.contains(&own), "{}", in_use.err);
    store.close().await.unwrap();
    let asked = tool(&path, &["restore", copy]).with_code(2);
    for told in ["was made", "lives again", "--expire-all", "--yes"] {
        assert!(asked.err.contains(told), "{told} is missing: {}", asked.err);
    }
    let state = |path: &Path| tool(path, &["inspect", &id, "--json"]).json()["state"].clone();
    assert_eq!(state(&path), "ended");

    let done = tool(&path, &["restore", copy, "--yes", "--json", "--reason", "test"]).with_code(0);
    let done = done.json();
    assert!(done["copied_at"].is_string() && done["records"] == 1, "{done}");
    // Ended in a file whose sessions' time is another.
    assert_ne!(state(&path), "ended");
    let kept = done["kept"].as_str().unwrap();
    assert!(kept.contains("sessions.redb.replaced-"), "{kept}");
    assert_eq!(state(Path::new(kept)), "ended");
    let log = tool(&path, &["log", "--json"]).json();
    assert_eq!((&log[0]["verb"], &log[0]["reason"]), (&"restore".into(), &"test".into()));
    assert_eq!(log[0]["selector"], copy);

    tool(&path, &["restore", copy, "--yes", "--expire-all"]).with_code(0);
    let log = tool(&path, &["log", "--json"]).with_code(0).out;
    assert!(log.contains(&format!("{copy} --expire-all")), "{log}");
    assert_eq!(state(&path), "ended");
    assert_eq!(names(fixture.dir.path()).len(), 4);
    // Where there is no file yet.
    fs::remove_file(&path).unwrap();
    let done = tool(&path, &["restore", copy, "--yes", "--json"]).with_code(0).json();
    assert!(done["kept"].is_null());
    assert_ne!(state(&path), "ended");
}

#[tokio::test]
async fn a_broken_backup_is_refused_and_nothing_is_changed() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for _ in 0..50 {
        create(&store, Some("alice")).await;
    }
    store.close().await.unwrap();
    let copy = fixture.dir.path().join("copy.redb");
    RedbStore::builder(fixture.path()).backup(&copy).unwrap();
    let mut bytes = fs::read(&copy).unwrap();
    for at in (8192..bytes.len()).step_by(512) {
        bytes[at] ^= 1;
    }
    fs::write(&copy, bytes).unwrap();
    let before = fs::read(fixture.path()).unwrap();
    let ran = tool(&fixture.path(), &["restore", copy.to_str().unwrap(), "--yes"]).with_code(5);
    assert!(ran.err.contains("damaged"), "{}", ran.err);
    let none = fixture.dir.path().join("none");
    let ran = tool(&fixture.path(), &["restore", none.to_str().unwrap(), "--yes"]).with_code(1);
    assert!(ran.err.contains("there is no backup at"), "{}", ran.err);
    assert!(fs::read(fixture.path()).unwrap() == before);
    assert_eq!(names(fixture.dir.path()), ["copy.redb", "sessions.redb"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_are_never_kept_out_for_longer_than_they_wait() {
    let fixture = Fixture::new();
    let store = fixture.builder().wait(Duration::from_secs(1)).open().unwrap();
    let id = create(&store, None).await;
    for n in 0..3 {
        let (path, to) = (fixture.path(), fixture.dir.path().join(format!("{n}.redb")));
        let backup = tokio::task::spawn_blocking(move || RedbStore::builder(path).backup(to));
        while !backup.is_finished() {
            store.commit(set(id, n, false)).await.unwrap();
        }
        backup.await.unwrap().unwrap();
    }
}
