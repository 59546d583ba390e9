//! The README's console blocks, run as they stand, with a real server and the real tool.
//!
//! What is not a command of this project is looked up, and skipped loudly where it is missing;
//! `FASTSESSION_REQUIRE_ALL` makes that a failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/console.rs"]
mod console;

use common::Server;

#[test]
fn the_console_blocks_do_what_they_show() {
    if !console::has_curl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let mut walk = console::Walk::default();
    let mut server = None;
    for step in console::steps(&readme.unwrap()) {
        match step.command.as_str() {
            "cargo run --release --example counter" => {
                let file = dir.path().join("sessions.redb");
                server = Some(Server::start("counter", &file));
            }
            // This is what is running.
            "cargo test" => {}
            _ => {
                let server = server.as_ref().expect("the server is started first");
                walk.run(&step, dir.path(), &server.address, None);
            }
        }
    }
    assert!(walk.ran >= 10, "the README has hardly any console blocks");
}
