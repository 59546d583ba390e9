//! Filesystems that are full, read-only or somebody else's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use fastsession::{Clock, RedbStore, Selector, SessionStore};

use crate::app::{Browser, app};
use crate::helper::open_as;
use crate::model::{self, Action, Lane, World};
use crate::mount::{Mount, skipped};
use crate::run::{BACK_WITHIN, START};

const NOBODY: u32 = 65534;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_is_new_and_service_returns_with_the_space() {
    for exclusive in [false, true] {
        let Some(mount) = Mount::new("size=8m") else { return };
        let builder = RedbStore::builder(mount.sessions());
        let store = if exclusive { builder.exclusive() } else { builder }.open().unwrap();
        let app = app(&store);
        let mut known = Browser::new(&app);
        assert_eq!(known.get("/count").await.body, "1");
        let mut leaving = Browser::new(&app);
        assert_eq!(leaving.get("/count").await.body, "1");
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
        // Whoever logs out, or is logged out, is told the truth.
        assert_eq!(leaving.get("/logout").await.status, StatusCode::OK);
        store.expire(Selector::everyone()).await.unwrap();
        assert_eq!(known.get("/read").await.body, "None");
        assert!(store.purge().await.unwrap().purged > 0);

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
        let mode = if exclusive { "exclusive" } else { "shared" };
        println!(
            "\n| disk filled, then space freed | {mode} mode | {refused} refused without a cookie; \
             service was back after {:.0?} |",
            since.elapsed()
        );
        store.close().await.unwrap();
    }
}

/// Sessions by the thousand, small and large, until there is room for none.
async fn fill_with_sessions(store: &RedbStore, clock: &Clock, world: &mut World, mount: &Mount) {
    let mut lane = Lane::new(1);
    for (size, at_most) in [(50, 3000), (30_000, 10_000), (50, 10_000)] {
        let mut refused = 0;
        for number in 0..at_most {
            let user = Some(format!("user{}", number % 40));
            let action = lane.create_of(user, size);
            match action.run(store, clock).await {
                Ok(()) => action.apply(world),
                Err(error) => {
                    // A refusal for want of room is a definite one.
                    assert!(error.is_full() || error.is_unavailable(), "{error:?}");
                    refused += 1;
                }
            }
            if refused == 3 {
                break;
            }
        }
        // From here on there is nothing left but what the file has.
        if size == 50 && refused == 0 {
            mount.fill();
        } else {
            assert_eq!(refused, 3, "the disk is not full");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_19_ending_and_purging_work_on_a_full_disk() {
    for exclusive in [false, true] {
        let Some(mount) = Mount::new("size=8m") else { return };
        let clock = Clock::manual(START);
        let builder = RedbStore::builder(mount.sessions()).clock(clock.clone()).without_sweeping();
        let builder = builder.keep_ended(Duration::ZERO);
        let store = if exclusive { builder.exclusive() } else { builder }.open().unwrap();
        let mut world = World { ring_version: 1, sessions: BTreeMap::new() };
        fill_with_sessions(&store, &clock, &mut world, &mount).await;
        let ids: Vec<_> = world.sessions.keys().copied().collect();
        let mut endings: Vec<_> = ids[..200].iter().map(|id| Action::Destroy { id: *id }).collect();
        endings.push(Action::ExpireIds { ids: ids[200..220].to_vec() });
        for number in 0..20 {
            endings.push(Action::ExpireUser { user: format!("user{number}"), except: None });
        }
        endings.push(Action::Purge);
        endings.push(Action::Rotate { version: 2 });
        endings.push(Action::ExpireEveryone { except: Some(ids[221]) });
        endings.push(Action::Sweep);
        endings.push(Action::Purge);
        for action in endings {
            let done = action.run(&store, &clock).await;
            assert!(done.is_ok(), "{}, exclusive: {exclusive}: {done:?}", action.kind());
            action.apply(&mut world);
        }
        let found = model::read(&store, &clock, &world).await.unwrap();
        assert!(found == world, "not all that was ended is over");
        // And there is room for others again, on a disk as full as before.
        let since = Instant::now();
        while let Err(error) = Lane::new(2).create().run(&store, &clock).await {
            assert!(since.elapsed() < BACK_WITHIN, "{error:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_19_a_file_that_was_closed_is_ended_and_purged_once_the_disk_is_full() {
    // The larger ones have more than one region.
    for (size, exclusive) in [(50, false), (50, true), (30_000, false), (30_000, true)] {
        let Some(mount) = Mount::new("size=160m") else { return };
        let clock = Clock::manual(START);
        let open = || {
            let builder =
                RedbStore::builder(mount.sessions()).clock(clock.clone()).without_sweeping();
            let builder = builder.keep_ended(Duration::ZERO);
            if exclusive { builder.exclusive() } else { builder }.open().unwrap()
        };
        let mut world = World { ring_version: 1, sessions: BTreeMap::new() };
        let mut lane = Lane::new(1);
        let store = open();
        for number in 0..1000 {
            let action = lane.create_of(Some(format!("user{}", number % 10)), size);
            action.run(&store, &clock).await.unwrap();
            action.apply(&mut world);
        }
        store.close().await.unwrap();
        mount.fill();
        let user = Action::ExpireUser { user: "user1".into(), except: None };
        let rotate = Action::Rotate { version: 2 };
        let live: Vec<_> = world.sessions.keys().copied().collect();
        let many = |ids: std::ops::Range<usize>| Action::ExpireIds { ids: live[ids].to_vec() };
        // Each by a process of its own, as it were.
        for action in [user, rotate, many(0..500), Action::Purge, many(500..900), Action::Purge] {
            let store = open();
            let what = (action.kind(), size, exclusive);
            let done = match &action {
                // As many at a time as there is room for.
                Action::ExpireIds { ids } => {
                    store.expire(Selector::ids(ids.iter().copied())).await.map(drop)
                }
                _ => action.run(&store, &clock).await,
            };
            assert!(done.is_ok(), "{what:?}: {done:?}");
            action.apply(&mut world);
            let found = model::read(&store, &clock, &world).await.unwrap();
            assert!(found == world, "{what:?}");
            store.close().await.unwrap();
        }
    }
}

/// Less than a region, and more than one.
const SIZES: [u64; 2] = [1, (128 << 20) + 1];

/// A file of so many bytes whose end is a hole, and what is in it.
async fn file_with_a_hole(mount: &Mount, store: &RedbStore, clock: &Clock, len: u64) -> World {
    let mut world = World { ring_version: 1, sessions: BTreeMap::new() };
    let mut lane = Lane::new(1);
    while hole_of(mount) < 16 << 20 || fs::metadata(mount.sessions()).unwrap().len() < len {
        let user = Some(format!("user{}", world.sessions.len() % 40));
        let action = lane.create_of(user, 60_000);
        action.run(store, clock).await.unwrap();
        action.apply(&mut world);
    }
    world
}

/// Bytes that the file has no blocks for.
fn hole_of(mount: &Mount) -> u64 {
    let meta = fs::metadata(mount.sessions()).unwrap();
    meta.len().saturating_sub(meta.blocks() * 512)
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_19_a_hole_that_the_disk_cannot_fill_any_more_ends_no_service() {
    for (len, exclusive) in SIZES.into_iter().zip([false, true]) {
        let Some(mount) = Mount::new("size=640m") else { return };
        let clock = Clock::manual(START);
        let builder = RedbStore::builder(mount.sessions()).clock(clock.clone()).without_sweeping();
        let builder = builder.keep_ended(Duration::ZERO);
        let store = if exclusive { builder.exclusive() } else { builder }.open().unwrap();
        let mut world = file_with_a_hole(&mount, &store, &clock, len).await;
        // While nothing is written, so that the store does not see it coming.
        let ballast = mount.fill();
        for _ in 0..3 {
            let refused = Lane::new(2).create().run(&store, &clock).await.unwrap_err();
            assert!(refused.is_full(), "{refused:?}");
        }
        let ids: Vec<_> = world.sessions.keys().copied().collect();
        let mut endings: Vec<_> = ids[..50].iter().map(|id| Action::Destroy { id: *id }).collect();
        endings.push(Action::ExpireUser { user: "user1".into(), except: None });
        endings.push(Action::Rotate { version: 2 });
        endings.push(Action::Purge);
        for action in endings {
            let done = action.run(&store, &clock).await;
            assert!(done.is_ok(), "{}, exclusive: {exclusive}: {done:?}", action.kind());
            action.apply(&mut world);
        }
        fs::remove_file(ballast).unwrap();
        let since = Instant::now();
        while let Err(error) = Lane::new(2).create_of(None, 60_000).run(&store, &clock).await {
            assert!(since.elapsed() < BACK_WITHIN, "{error:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_19_a_disk_that_fills_up_leaves_no_hole_in_the_file() {
    for len in SIZES {
        let Some(mount) = Mount::new("size=640m") else { return };
        let clock = Clock::manual(START);
        let store = RedbStore::builder(mount.sessions()).clock(clock.clone()).open().unwrap();
        file_with_a_hole(&mount, &store, &clock, len).await;
        let ballast = fs::File::create(mount.path().join("ballast")).unwrap();
        let free = rustix::fs::statvfs(mount.path()).unwrap();
        let most = free.f_bavail * free.f_frsize;
        // Room enough for the hole, and too little for another leap.
        let ballast_bytes = most - hole_of(&mount) - (8 << 20);
        let plain = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&ballast, plain, 0, ballast_bytes).unwrap();
        let mut lane = Lane::new(2);
        lane.create().run(&store, &clock).await.unwrap();
        assert_eq!(hole_of(&mount), 0);
        mount.fill();
        lane.create().run(&store, &clock).await.unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_read_only_filesystem_is_refused_at_the_start() {
    let Some(mount) = Mount::new("size=8m") else { return };
    RedbStore::open(mount.sessions()).unwrap().close().await.unwrap();
    let before = fs::read(mount.sessions()).unwrap();
    mount.remount("remount,ro");
    let error = RedbStore::open(mount.sessions()).unwrap_err();
    assert!(error.is_forbidden() && error.to_string().contains("read-only"), "{error:?}");
    let error = RedbStore::open(mount.path().join("new.redb")).unwrap_err();
    assert!(error.is_forbidden(), "{error:?}");
    assert!(fs::read(mount.sessions()).unwrap() == before);
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
