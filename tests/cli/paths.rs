//! Paths that lead to something else than a session file.

use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, mknodat};

use crate::desk::Desk;
use crate::terminal::piped;

/// Every verb that takes a database, as it would be typed.
const ON_A_FILE: [&str; 17] = [
    "list",
    "inspect 1a2b",
    "expire 1a2b",
    "purge",
    "stats",
    "log",
    "key list",
    "key rotate",
    "check",
    "check --repair --yes",
    "compact",
    "migrate",
    "backup copy.redb",
    "restore backup.redb --yes",
    "export",
    "import more.jsonl",
    "init",
];

/// What each verb says of `path`.
fn refused(desk: &Desk, path: &str, why: &str) {
    for line in ON_A_FILE {
        let args: Vec<_> = line.split(' ').chain(["--db", path]).collect();
        let ran = piped(desk.path(), &args, "");
        assert_eq!(ran.code(), 1, "{line} --db {path}: {ran:?}");
        let exists = line == "init" && ran.err == format!("error: {path} exists already\n");
        assert!(ran.err.contains(why) || exists, "{line} --db {path}: {}", ran.err);
        assert_eq!(ran.out, "", "{line}");
    }
    assert_eq!(desk.ids().len(), 8);
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let desk = Desk::new();
    mknodat(CWD, desk.file("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
    refused(&desk, "fifo", "fifo is not a regular file");
    // Nor as a backup.
    let ran = piped(desk.path(), &["restore", "fifo", "--yes"], "").with_code(1);
    assert_eq!(ran.err, "error: fifo is not a regular file\n");
}

#[test]
fn a_socket_is_refused() {
    let desk = Desk::new();
    let _listener = UnixListener::bind(desk.file("socket")).unwrap();
    refused(&desk, "socket", "socket cannot be opened");
}

#[test]
fn a_directory_is_refused() {
    let desk = Desk::new();
    std::fs::create_dir(desk.file("folder")).unwrap();
    refused(&desk, "folder", "folder is a directory, not a session file");
}

#[test]
fn a_device_is_refused() {
    let desk = Desk::new();
    for device in ["/dev/null", "/dev/zero", "/dev/full"] {
        refused(&desk, device, &format!("{device} is not a regular file"));
    }
}

#[test]
fn a_symbolic_link_is_refused() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("sessions.redb", desk.file("link")).unwrap();
    refused(&desk, "link", "link is a symbolic link; name its target");
}

#[test]
fn another_programs_file_is_refused_and_left_alone() {
    let desk = Desk::new();
    let files: [(&str, &[u8], &str); 3] = [
        ("empty", b"", "empty is empty, not a session file"),
        ("text", b"hello, world; this is text", "text is not a session file"),
        ("sqlite", b"SQLite format 3\0 and more of it", "sqlite is an SQLite database"),
    ];
    for (name, content, why) in files {
        std::fs::write(desk.file(name), content).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(desk.file(name), mode).unwrap();
        refused(&desk, name, why);
        assert_eq!(std::fs::read(desk.file(name)).unwrap(), content);
    }
}

#[test]
fn an_empty_path_is_a_mistake_and_an_empty_variable_is_none() {
    let desk = Desk::new();
    for args in [&["list", "--db", ""][..], &["--db=", "list"]] {
        let ran = piped(desk.path(), args, "").with_code(2);
        assert!(ran.err.starts_with("error: a value is required for '--db <FILE>'"), "{}", ran.err);
    }
    let mut tool = crate::terminal::command(desk.path(), &["list", "--format", "ids"]);
    let output = tool.env("FASTSESSION_DB", "").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 5);
}

#[test]
fn a_path_that_would_act_on_a_terminal_is_shown_escaped() {
    let desk = Desk::new();
    let ran = piped(desk.path(), &["list", "--db", "\u{1b}[2J\n.redb"], "").with_code(1);
    assert!(ran.err.starts_with("error: there is no database at \\u{1b}[2J"), "{}", ran.err);
    assert!(!ran.err.contains('\u{1b}'));
}
