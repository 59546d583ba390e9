//! One file, several real processes: servers, the command-line tool, `kill -9`.
//!
//! How long the long ones are: `FASTSESSION_UPDATES` (updates each of 64 clients makes),
//! `FASTSESSION_KILLS`, `FASTSESSION_RESTARTS`, `FASTSESSION_ROTATIONS`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what was counted")]

#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod full_disk;
mod kills;
#[path = "../common/mount.rs"]
mod mount;
mod restarts;
mod rotations;
mod server;

use std::time::{Duration, Instant};

use common::{Client, Server, run_tool, tool_says};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// How often something is done: as the environment says, or `otherwise`.
fn times(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

fn count(client: &mut Client) -> u64 {
    let response = client.get("/session_test").unwrap();
    assert_eq!(response.status, 200, "{}", response.body);
    response.count()
}

#[test]
fn the_whole_path_on_one_file_while_the_server_serves() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let server = Server::start("counter", &file);
    let mut client = server.client();
    assert_eq!([count(&mut client), count(&mut client), count(&mut client)], [1, 2, 3]);

    let listed = json(&tool_says(&file, &["list", "--json"]));
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed[0]["state"], "live");
    let prefix = &id[..8];
    let inspected = tool_says(&file, &["inspect", prefix, "--json"]);
    assert!(inspected.contains("\"test_counter\""), "{inspected}");
    assert!(tool_says(&file, &["inspect", prefix]).contains("test_counter"));

    let ended = json(&tool_says(&file, &["expire", prefix, "--json"]));
    assert_eq!(ended["ended"], 1);
    assert_eq!(count(&mut client), 1, "the ended session was used");

    let before = client.cookie.clone();
    tool_says(&file, &["key", "rotate"]);
    let since = Instant::now();
    let mut last = 1;
    while client.cookie == before {
        let now = count(&mut client);
        assert_eq!(now, last + 1, "the rotation lost the session");
        last = now;
        assert!(since.elapsed() < Duration::from_secs(1), "the new key is not used");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(count(&mut client), last + 1);

    let purged = json(&tool_says(&file, &["purge", "--expired", "--json"]));
    assert_eq!(purged["purged"], 1, "{purged}");
    assert_eq!(count(&mut client), last + 2);
    let left = json(&tool_says(&file, &["list", "--state", "all", "--json"]));
    assert_eq!(left.as_array().unwrap().len(), 1);
}

#[test]
fn two_servers_share_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let servers = [Server::start("counter", &file), Server::start("counter", &file)];
    let mut client = servers[0].client();
    assert_eq!(count(&mut client), 1);
    let mut clients = [client.moved_to(&servers[0]), client.moved_to(&servers[1])];
    for expected in 2..200 {
        let index = usize::from(expected % 2 == 0);
        assert_eq!(count(&mut clients[index]), expected, "a gap");
    }
}

#[test]
fn rule_04_updates_from_two_processes_add_up() {
    let updates = times("FASTSESSION_UPDATES", 25);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let servers = [Server::start("counter", &file), Server::start("counter", &file)];
    let mut first = servers[0].client();
    assert_eq!(count(&mut first), 1);
    let since = Instant::now();
    let clients: Vec<_> = (0..64)
        .map(|n| {
            let mut client = first.moved_to(&servers[n % 2]);
            std::thread::spawn(move || {
                (0..updates).filter(|_| client.get("/session_test").unwrap().status == 200).count()
            })
        })
        .collect();
    let succeeded: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let took = since.elapsed();
    assert_eq!(count(&mut first), succeeded as u64 + 2);
    let asked = 64 * updates;
    println!("{succeeded} of {asked} updates of one session by two processes in {took:?}");
    assert!(succeeded as u64 * 100 >= asked * 99, "only {succeeded} of {asked} succeeded");
}

#[test]
fn security_21_a_stolen_file_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let server = Server::start("counter", &file);
    let mut client = server.client();
    count(&mut client);
    let cookie = client.cookie.clone().unwrap();
    let (name, value) = cookie.split_once('=').unwrap();
    let token = value.split('.').nth(2).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let found = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(!found(token.as_bytes()) && !found(value.as_bytes()), "the file holds the cookie");

    let listed = json(&tool_says(&file, &["list", "--json"]));
    let id = listed[0]["id"].as_str().unwrap();
    for forged in [id.to_owned(), value.replace(token, id)] {
        let mut thief = server.client();
        thief.cookie = Some(format!("{name}={forged}"));
        assert_eq!(count(&mut thief), 1, "a stored ID opened the session");
    }
}

#[test]
fn the_tool_says_what_is_wrong_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.redb");
    let output = run_tool(&missing, &["list"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("missing.redb") && stderr.contains("--db"), "{stderr}");
    assert!(!missing.exists(), "list created a file");

    assert_eq!(run_tool(dir.path(), &["list"]).status.code(), Some(1));
}

fn page(client: &mut Client) -> String {
    let response = client.get("/").unwrap();
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    response.body
}

fn sign_in(client: &mut Client, name: &str) {
    assert_eq!(client.post("/login", &format!("name={name}")).unwrap().status, 303);
    assert!(page(client).contains(&format!("Hello, {name}")));
}

#[test]
fn rule_11_devices_are_ended_from_the_page_and_from_the_tool() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("login.redb");
    let server = Server::start("login", &file);
    let [mut phone, mut laptop, mut other] = [server.client(), server.client(), server.client()];
    for device in [&mut phone, &mut laptop, &mut other] {
        sign_in(device, "alice");
    }
    assert!(page(&mut phone).contains("3 devices"));

    // One, from the page.
    let listed = json(&tool_says(&file, &["list", "--user", "alice", "--json"]));
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let html = page(&mut phone);
    let id = html.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(phone.post("/end", &format!("id={id}")).unwrap().status, 303);
    let left = [page(&mut laptop), page(&mut other)];
    assert_eq!(left.iter().filter(|html| html.contains("Hello, alice")).count(), 1);

    // All others, from the page.
    assert_eq!(phone.post("/end-others", "").unwrap().status, 303);
    assert!(page(&mut phone).contains("one device"));
    assert!(page(&mut laptop).contains("Sign in") && page(&mut other).contains("Sign in"));

    // All of one user, from the tool; a login afterwards is a new session.
    sign_in(&mut laptop, "alice");
    let ended = json(&tool_says(&file, &["expire", "--user", "alice", "--yes", "--json"]));
    assert_eq!(ended["ended"], 2);
    let since = Instant::now();
    while page(&mut phone).contains("Hello") {
        assert!(since.elapsed() < Duration::from_secs(1), "the ended session is still served");
    }
    sign_in(&mut phone, "alice");
    assert!(page(&mut phone).contains("one device"));

    // Signed out; the old cookie opens nothing.
    let replayed = phone.cookie.clone();
    assert_eq!(phone.post("/logout", "").unwrap().status, 303);
    assert_eq!(phone.cookie, None, "the cookie was not deleted");
    phone.cookie = replayed;
    assert!(page(&mut phone).contains("Sign in"));
}
