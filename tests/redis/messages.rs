//! What an operator reads where a server cannot be used: why, what to do, and never a password.

use std::io::Write;
use std::net::TcpListener;
use std::process::Output;

use fastsession::RedisStore;

use crate::common::tool;
use crate::server::{self, Node};

fn run(url: &str, args: &[&str]) -> Output {
    tool().args(args).args(["--db", url, "--wait", "1s"]).output().unwrap()
}

/// That it fails, and says this.
fn fails(url: &str, args: &[&str], says: &str) {
    fails_with(1, url, args, says);
}

fn fails_with(code: i32, url: &str, args: &[&str], says: &str) {
    let output = run(url, args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{args:?} says\n{text}instead of\n{says}");
    assert!(!text.contains("staple") && !text.contains("panicked"), "{text}");
}

#[test]
fn a_server_that_is_not_there_or_is_none_is_named() {
    if !server::is_installed() {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("redis://:battery-staple@127.0.0.1:{port}/");
    fails(&url, &["list"], &format!("127.0.0.1:{port} cannot be reached: Connection refused"));

    // It takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("redis://127.0.0.1:{port}/");
    fails(&url, &["list"], &format!("127.0.0.1:{port} did not answer within 1s"));

    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    fails(&format!("redis://127.0.0.1:{port}/"), &["list"], &format!("127.0.0.1:{port} cannot be"));
}

#[test]
fn a_refused_user_is_told_whether_it_is_the_password_or_the_rights() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    node.cli(&["ACL", "SETUSER", "app", "on", ">battery-staple", "~*", "+@all", "-info"]);
    let keyless = ["ACL", "SETUSER", "keyless", "on", ">battery-staple", "~other*", "+@all"];
    node.cli(&keyless);
    let at = |user: &str| format!("redis://{user}@127.0.0.1:{}/", node.port);
    fails(&at("app:horse-staple"), &["list"], "refuses user and password");
    fails(&at("nobody:battery-staple"), &["list"], "refuses user and password");
    fails(&at("app:battery-staple"), &["list"], "the server's ACL forbids it");
    fails(&at("keyless:battery-staple"), &["list"], "the server's ACL forbids it");
    node.cli(&["ACL", "SETUSER", "default", ">battery-staple"]);
    let url = node.url();
    fails(&url, &["list"], "the server wants user and password: redis://user:password@");
}

#[test]
fn a_replica_names_what_to_connect_to() {
    if !server::is_installed() {
        return;
    }
    let (primary, replica) = (Node::start(&[]), Node::start(&[]));
    replica.cli(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    fails(&replica.url(), &["list"], "the server is a read-only replica: name the primary");
}

#[test]
fn a_key_of_somebody_else_is_named_as_a_prefix_in_use() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    node.cli(&["SET", "{fastsession}:meta", "something else"]);
    let says = "a key of the store holds something else: another prefix?";
    fails(&node.url(), &["list"], says);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_says_so_and_still_ends_sessions() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&["--maxmemory-policy", "noeviction"]);
    drop(RedisStore::connect(&node.url()).unwrap());
    node.cli(&["CONFIG", "SET", "maxmemory", "1000000"]);
    fails(&node.url(), &["key", "rotate"], "the server has reached its `maxmemory`");
    let output = run(&node.url(), &["expire", "--all", "--yes"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn another_schema_is_refused_with_both_versions() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    let url = format!("redis://127.0.0.1:{}/", node.port);
    assert!(run(&url, &["init"]).status.success());
    let meta = node.cli(&["--raw", "KEYS", "*meta*"]);
    for (field, value, says) in [
        (
            "min_reader",
            "9",
            "needs a version that knows schema 9 or newer; this one knows schema 2",
        ),
        ("schema", "1", "has schema 1, and this version reads schema 2"),
    ] {
        let before = node.cli(&["HGET", meta.trim(), field]);
        node.cli(&["HSET", meta.trim(), field, value]);
        fails_with(6, &url, &["list"], says);
        node.cli(&["HSET", meta.trim(), field, before.trim()]);
        assert!(run(&url, &["list"]).status.success());
    }
}
