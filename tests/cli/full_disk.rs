//! A disk without room, in the middle of whatever writes a file.

use std::path::Path;

use crate::desk::{Desk, export_of};
use crate::mount::Mount;
use crate::signals::crowded;
use crate::terminal::{Ran, piped};

fn run(desk: &Desk, args: &[&str]) -> Ran {
    piped(desk.path(), args, "")
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// It failed for want of room, and said so.
fn failed(ran: &Ran) {
    assert_eq!(ran.code(), 1, "{ran:?}");
    assert!(ran.err.contains("error: "), "{ran:?}");
    assert!(ran.err.contains("No space left on device") || ran.err.contains("room"), "{ran:?}");
}

#[test]
fn a_backup_without_room_leaves_nothing_and_the_file_as_it_was() {
    let Some(mount) = Mount::new("size=256k") else { return };
    let desk = crowded();
    failed(&run(&desk, &["backup", shown(&mount.file("copy.redb"))]));
    assert_eq!(mount.names(), [""; 0]);
    run(&desk, &["check"]).with_code(0);
}

#[test]
fn an_export_without_room_leaves_nothing() {
    let Some(mount) = Mount::new("size=256k") else { return };
    let desk = crowded();
    let path = mount.file("all.jsonl");
    let ran = run(&desk, &["export", "-o", shown(&path)]);
    failed(&ran);
    let expected = format!("error: {} cannot be written\n", path.display());
    assert!(ran.err.starts_with(&expected), "{}", ran.err);
    assert_eq!(mount.names(), [""; 0]);
    // Through a pipe of the shell's, half of it is there, and the exit code says so.
    let out = std::fs::File::create(mount.file("out.jsonl")).unwrap();
    let mut tool = crate::terminal::command(desk.path(), &["export"]);
    let output = tool.stdout(out).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: the output cannot be written\n"), "{said}");
    let half = run(&desk, &["import", shown(&mount.file("out.jsonl")), "--db", "new.redb"]);
    assert_eq!(half.code(), 1, "half an export is not taken for a whole one");
}

#[test]
fn a_restore_without_room_leaves_the_former_file_in_place() {
    let Some(mount) = Mount::new("size=4m") else { return };
    let desk = crowded();
    let file = mount.file("sessions.redb");
    piped(desk.path(), &["import", "-", "--db", shown(&file)], &export_of(8)).with_code(0);
    mount.fill();
    let before = std::fs::read(&file).unwrap();
    failed(&run(&desk, &["restore", "backup.redb", "--yes", "--db", shown(&file)]));
    assert!(std::fs::read(&file).unwrap() == before);
    assert_eq!(mount.names(), ["ballast", "sessions.redb"]);
    // And where there is no former file, there is none afterwards.
    let new = mount.file("new.redb");
    failed(&run(&desk, &["restore", "backup.redb", "--yes", "--db", shown(&new)]));
    assert_eq!(mount.names(), ["ballast", "sessions.redb"]);
}

/// Ways to come by a file of 6,000 sessions.
const MADE_BY: [&[&str]; 3] =
    [&["import more.jsonl"], &["restore backup.redb --yes"], &["import more.jsonl", "compact"]];

#[test]
fn rule_19_on_a_full_disk_the_tool_ends_purges_and_rotates_but_writes_no_file_anew() {
    let desk = crowded();
    for lines in MADE_BY {
        let Some(mount) = Mount::new("size=16m") else { return };
        let file = mount.file("sessions.redb");
        let on_it = |line: &str| {
            let args: Vec<_> = line.split(' ').chain(["--db", shown(&file)]).collect();
            println!("{lines:?}, {line}");
            run(&desk, &args)
        };
        for line in lines {
            on_it(line).with_code(0);
        }
        mount.fill();
        failed(&on_it("compact"));
        assert_eq!(mount.names(), ["ballast", "sessions.redb"]);
        failed(&run(&desk, &["init", "--db", shown(&mount.file("new.redb"))]));
        assert_eq!(mount.names(), ["ballast", "sessions.redb"]);
        on_it("expire --user many --yes").with_code(0);
        let left = on_it("list --user many --format ids").with_code(0);
        assert_eq!(left.out, "");
        on_it("key rotate").with_code(0);
        on_it("check").with_code(0);
        on_it("purge").with_code(0);
        let ran = on_it("expire --anonymous --yes").with_code(0);
        assert!(ran.out.starts_with("ended 2"), "a filter ends some at a time: {ran:?}");
        on_it("purge --state ended").with_code(0);
        on_it("purge").with_code(0);
        on_it("check").with_code(0);
        // Of the others, who are neither anonymous nor that user.
        assert_eq!(on_it("list --format ids").with_code(0).out.lines().count(), 4);
    }
}

#[test]
fn rule_19_what_a_full_disk_refuses_the_tool_was_not_done() {
    let Some(mount) = Mount::new("size=16m") else { return };
    let desk = crowded();
    // A copy has nothing beyond its end, and the disk is full before it is opened.
    let file = mount.file("sessions.redb");
    std::fs::copy(desk.file("backup.redb"), &file).unwrap();
    mount.fill();
    let on_it = |line: &str| {
        let args: Vec<_> = line.split(' ').chain(["--db", shown(&file)]).collect();
        run(&desk, &args)
    };
    let count = || {
        let all = on_it("list --state all --format ids").with_code(0);
        all.out.lines().count()
    };
    let mut refused = 0;
    on_it("expire --user many --yes");
    for _ in 0..3 {
        let lines = ["key rotate", "purge", "expire --anonymous --yes", "purge --state ended"];
        for line in lines {
            let before = count();
            let ran = on_it(line);
            if ran.code() != 0 {
                failed(&ran);
                assert!(ran.err.contains("the disk is full"), "a definite answer: {ran:?}");
                let partly = ran.err.contains("before that");
                assert!(partly || count() == before, "{ran:?}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused");
    on_it("check").with_code(0);
    // With room, once, all of it is done.
    std::fs::remove_file(mount.file("ballast")).unwrap();
    for line in ["expire --anonymous --yes", "purge"] {
        on_it(line).with_code(0);
    }
}

#[test]
fn an_import_that_fills_the_disk_keeps_what_it_took_in_and_goes_on_later() {
    let Some(mount) = Mount::new("size=2m") else { return };
    let desk = crowded();
    let file = mount.file("sessions.redb");
    run(&desk, &["init", "--db", shown(&file)]).with_code(0);
    let ran = run(&desk, &["import", "more.jsonl", "--db", shown(&file)]);
    failed(&ran);
    run(&desk, &["check", "--db", shown(&file)]).with_code(0);
    let list = ["list", "--state", "all", "--format", "ids", "--db", shown(&file)];
    let there = run(&desk, &list).with_code(0).out;
    assert!(ran.out.starts_with("imported "), "{ran:?}");
    assert!(there.lines().count() < desk.ids().len());
    // On a disk with room, it takes in the rest.
    let copy = desk.file("moved.redb");
    std::fs::copy(&file, &copy).unwrap();
    run(&desk, &["import", "more.jsonl", "--db", "moved.redb"]).with_code(0);
    let list = ["list", "--state", "all", "--format", "ids", "--db", "moved.redb"];
    assert_eq!(run(&desk, &list).with_code(0).out.lines().count(), desk.ids().len());
}
