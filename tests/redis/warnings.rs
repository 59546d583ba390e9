//! What is said at connecting about servers that may lose sessions.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use fastsession::RedisStore;

use crate::server::{self, Node};

/// What is logged by this test binary.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_eviction_policy_and_missing_persistence_are_warned_of() {
    if !server::is_installed() {
        return;
    }
    let lines = Lines::default();
    let writer = lines.clone();
    // The store connects on a thread of its own.
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .init();
    let evicting = Node::start(&["--maxmemory-policy", "allkeys-lru", "--appendonly", "yes"]);
    let forgetful = Node::start(&[]);
    let sound = Node::start(&["--appendonly", "yes"]);
    for node in [&evicting, &forgetful, &sound] {
        RedisStore::connect(&node.url()).unwrap();
    }
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let said = |node: &Node| {
        let address = format!("127.0.0.1:{}\"", node.port);
        text.lines().filter(|line| line.contains(&address)).collect::<Vec<_>>().join("\n")
    };
    assert!(said(&evicting).contains("allkeys-lru"), "{text}");
    assert!(!said(&evicting).contains("appendonly"), "{text}");
    assert!(said(&forgetful).contains("appendonly"), "{text}");
    assert_eq!(said(&sound), "");
}
