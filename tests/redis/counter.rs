//! The counter example on a server: one line of it is another.

use std::path::Path;

use crate::common::{self, Server};
use crate::console::{self, Walk};
use crate::server::{self, Node};

const ON_A_FILE: &str = include_str!("../../examples/counter.rs");
const ON_A_SERVER: &str = include_str!("../../examples/counter_redis.rs");

/// The program, without what is said about it.
fn program(source: &str) -> Vec<&str> {
    source.lines().filter(|line| !line.starts_with("//!")).collect()
}

#[test]
fn from_a_file_to_a_server_one_line_of_the_counter_changes() {
    let (file, server) = (program(ON_A_FILE), program(ON_A_SERVER));
    assert_eq!(file.len(), server.len());
    let changed: Vec<_> = file.iter().zip(&server).filter(|(one, other)| one != other).collect();
    let [(file, server)] = changed[..] else { panic!("{changed:#?}") };
    assert!(file.contains("fastsession::RedbStore::open("), "{file}");
    assert!(server.contains("fastsession::RedisStore::connect("), "{server}");
}

/// What the README shows of the tool on a file, word by word.
#[test]
fn the_readme_s_walk_through_is_the_same_on_a_server() {
    if !server::is_installed() || !console::has_curl() {
        return;
    }
    common::build_example("counter_redis");
    let node = Node::start(&["--appendonly", "yes"]);
    let url = node.url();
    let counter = Server::start("counter_redis", Path::new(&url));
    let dir = tempfile::tempdir().unwrap();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let mut walk = Walk::default();
    for mut step in console::steps(&readme.unwrap()) {
        if step.command.starts_with("cargo ") {
            continue;
        }
        step.command = step.command.replace("sessions.redb", &url);
        walk.run(&step, dir.path(), &counter.address, Some(&url));
    }
    assert!(walk.ran >= 10, "the README has hardly any console blocks");
}
