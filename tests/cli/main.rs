//! The command-line tool as a process: in pipes, and in front of a real terminal.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was counted, or skipped")]

mod desk;
mod full_disk;
mod golden;
mod help;
mod hostile;
mod mistakes;
#[path = "../common/mount.rs"]
mod mount;
mod paths;
mod picture;
mod pipes;
mod scripting;
mod signals;
mod terminal;
