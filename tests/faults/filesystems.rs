//! Filesystems that are full, read-only or somebody else's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use fastsession::{RedbStore, Selector, SessionStore};
use tempfile::TempDir;

use crate::app::{Browser, app};
use crate::helper::open_as;
use crate::run::BACK_WITHIN;

const NOBODY: u32 = 65534;

/// Says loudly that a test did not run. `FASTSESSION_REQUIRE_ALL=1` makes that a failure.
fn skipped(why: &str) {
    assert!(std::env::var_os("FASTSESSION_REQUIRE_ALL").is_none(), "not run: {why}");
    println!("SKIPPED: {why}");
}

/// A filesystem in memory, of a few megabytes.
struct Mount(TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "fastsession-test"])
            .arg(dir.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        skipped("a filesystem cannot be mounted; that needs root");
        None
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", options]).arg(self.0.path()).status();
        assert!(done.unwrap().success());
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("sessions.redb")
    }

    /// Takes all the space that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.path().join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        ballast
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_is_new_and_service_returns_with_the_space() {
    for exclusive in [false, true] {
        let Some(mount) = Mount::new("size=8m") else { return };
        let builder = RedbStore::builder(mount.path());
        let store = if exclusive { builder.exclusive() } else { builder }.open().unwrap();
        let app = app(&store);
        let mut known = Browser::new(&app);
        assert_eq!(known.get("/count").await.body, "1");
        let ballast = mount.fill();

        let mut saved = Vec::new();
        let mut refused = 0;
        let mut errors = 0;
        while refused < 20 {
            let mut visitor = Browser::new(&app);
            let reply = visitor.get("/grow").await;
            if reply.status == StatusCode::OK {
                assert!(reply.set_cookie.is_some(), "{reply:?}");
                saved.push(visitor);
            } else {
                reply.assert_unavailable();
                refused += 1;
            }
            errors += u32::from(known.get("/read").await.status != StatusCode::OK);
        }
        assert_eq!(errors, 0, "those who are signed in are served");
        for visitor in &mut saved {
            assert_eq!(visitor.get("/read").await.status, StatusCode::OK);
            assert!(visitor.cookie.is_some());
        }
        // Done, or an error that says so; never a success without effect.
        let ended = store.expire(Selector::everyone()).await;
        let purged = store.purge().await;
        println!("on a full disk: expire {ended:?}, purge {purged:?}");
        for error in [ended.as_ref().err(), purged.as_ref().err()].into_iter().flatten() {
            assert!(error.is_full() || error.is_store_failure(), "{error:?}");
        }
        if ended.is_ok() {
            assert_eq!(known.get("/read").await.body, "None");
        }

        fs::remove_file(ballast).unwrap();
        let since = Instant::now();
        loop {
            let reply = Browser::new(&app).get("/grow").await;
            if reply.status == StatusCode::OK {
                break;
            }
            reply.assert_unavailable();
            assert!(since.elapsed() < BACK_WITHIN, "{reply:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("back {:?} after space was freed", since.elapsed());
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_read_only_filesystem_is_refused_at_the_start() {
    let Some(mount) = Mount::new("size=8m") else { return };
    RedbStore::open(mount.path()).unwrap().close().await.unwrap();
    let before = fs::read(mount.path()).unwrap();
    mount.remount("remount,ro");
    let error = RedbStore::open(mount.path()).unwrap_err();
    assert!(error.is_forbidden() && error.to_string().contains("read-only"), "{error:?}");
    let error = RedbStore::open(mount.0.path().join("new.redb")).unwrap_err();
    assert!(error.is_forbidden(), "{error:?}");
    assert!(fs::read(mount.path()).unwrap() == before);
}

#[test]
fn a_fifo_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.redb");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o600.into(), 0).unwrap();
    let since = Instant::now();
    let error = RedbStore::open(&path).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("not a regular file"), "{error:?}");
    assert!(since.elapsed() < Duration::from_secs(1));
}

#[test]
fn requirement_22_somebody_elses_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("sessions.redb");
    drop(RedbStore::open(&path).unwrap());
    let Some(said) = open_as(NOBODY, &path) else {
        return skipped("this process cannot run another one as nobody");
    };
    assert!(said.starts_with("forbidden: no permission"), "{said}");
    // Open to the group, which `nobody` is in.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    chown(&path, Some(0), Some(NOBODY)).unwrap();
    let said = open_as(NOBODY, &path).unwrap();
    assert!(said.starts_with("forbidden") && said.contains("belongs to user 0"), "{said}");
    // Where nothing may be created.
    let said = open_as(NOBODY, &dir.path().join("new.redb")).unwrap();
    assert!(said.starts_with("forbidden"), "{said}");
    assert_left_alone(dir.path());
    // Root opens what is another's.
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    drop(RedbStore::open(&path).unwrap());
}

/// No draft is left, nothing was made.
fn assert_left_alone(dir: &Path) {
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
}
