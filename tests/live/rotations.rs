//! The signing key is rotated by the tool while clients are served.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::common::{Client, tool_says};
use crate::server::{Server, listen};
use crate::{json, times};

const CLIENTS: usize = 4;
/// How long a key verifies after another took its place.
const RETIRE_AFTER: Duration = Duration::from_secs(3);
/// Longer than [`RETIRE_AFTER`] divided by the number of keys a ring holds.
const PAUSE: Duration = Duration::from_millis(250);

/// When each key's time is over.
type Ring = Arc<Mutex<HashMap<String, SystemTime>>>;

/// Rotates, and notes until when the former keys verify.
fn rotate(file: &Path, ring: &Ring) {
    let seconds = format!("{}s", RETIRE_AFTER.as_secs());
    // No key's time is over before this: the clock of keys is as of the last tick.
    let earliest = SystemTime::now() + RETIRE_AFTER - Duration::from_millis(11);
    let said = tool_says(file, &["key", "rotate", "--retire-after", &seconds, "--yes", "--json"]);
    for key in json(&said).as_array().unwrap().iter().filter(|key| key["state"] == "retiring") {
        let id = key["id"].as_str().unwrap().to_owned();
        ring.lock().unwrap().entry(id).or_insert(earliest);
    }
}

fn key_of(cookie: &str) -> String {
    cookie.split('.').nth(1).unwrap().to_owned()
}

/// Counts with whatever cookie it was given last. Returns how often, and signed by how many keys.
fn follow(mut client: Client, stop: &AtomicBool) -> (u64, usize) {
    let (mut count, mut keys) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let response = client.get("/count").unwrap();
        assert_eq!((response.status, response.count()), (200, count), "the session was reset");
        let key = key_of(client.cookie.as_ref().unwrap());
        if keys.last() != Some(&key) {
            keys.push(key);
        }
    }
    (count, keys.len())
}

/// Keeps its first cookie until that is refused, and starts again. Returns how often it was.
fn ignore(mut client: Client, ring: &Ring, stop: &AtomicBool) -> u64 {
    let (mut resets, mut count, mut kept) = (0, 0, None);
    while !stop.load(Ordering::Relaxed) || resets == 0 {
        client.cookie.clone_from(&kept);
        let response = client.get("/count").unwrap();
        assert_eq!(response.status, 200, "{}", response.body);
        count += 1;
        if response.count() != count {
            let refused: String = kept.take().unwrap();
            let over = ring.lock().unwrap().get(&key_of(&refused)).copied();
            let over = over.expect("the cookie of a key that was never replaced was refused");
            assert!(SystemTime::now() >= over, "a key was refused before its time was over");
            assert_eq!(response.count(), 1, "neither the session nor a fresh one");
            (resets, count) = (resets + 1, 1);
        }
        if kept.is_none() {
            kept.clone_from(&client.cookie);
        }
    }
    resets
}

#[test]
fn security_13_rotating_under_load_resets_no_session_before_its_key_is_retired() {
    let rotations = times("FASTSESSION_ROTATIONS", 5);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let listener = listen();
    let address = listener.local_addr().unwrap().to_string();
    let _server = Server::start(&listener, &file);
    let (stop, ring) = (Arc::new(AtomicBool::new(false)), Ring::default());
    let followers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, stop) = (Client::new(&address), stop.clone());
            std::thread::spawn(move || follow(client, &stop))
        })
        .collect();
    let ignorant = {
        let (client, stop, ring) = (Client::new(&address), stop.clone(), ring.clone());
        std::thread::spawn(move || ignore(client, &ring, &stop))
    };
    for _ in 0..rotations {
        std::thread::sleep(PAUSE);
        rotate(&file, &ring);
    }
    std::thread::sleep(PAUSE);
    stop.store(true, Ordering::Relaxed);
    let mut requests = 0;
    for follower in followers {
        let (count, keys) = follower.join().unwrap();
        assert!(keys as u64 > rotations / 2, "cookies were not signed anew");
        requests += count;
    }
    let refused = ignorant.join().unwrap();
    println!(
        "\n| `key rotate --retire-after {}s`, {CLIENTS} clients with cookie jars | {rotations} | \
         {requests} requests; sessions reset 0. A client that ignores `Set-Cookie` was refused \
         {refused} times, each time after its key's time was over |",
        RETIRE_AFTER.as_secs()
    );
}
