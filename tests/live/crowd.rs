//! Two servers and the tool on one file at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Client, Response, tool_says};
use crate::json;
use crate::server::{Server, listen};

const CLIENTS: usize = 4;
const ROUNDS: usize = 5;

/// Counts at two servers in turn until told to stop; nothing is ever missing.
fn count(addresses: &[String; 2], stop: &AtomicBool) -> u64 {
    let mut clients = addresses.clone().map(|address| Client::new(&address));
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let (one, other) = clients.split_at_mut(1);
        let (client, next) = if count % 2 == 0 {
            (&mut one[0], &mut other[0])
        } else {
            (&mut other[0], &mut one[0])
        };
        let response = client.get("/count").unwrap();
        count += 1;
        assert_eq!((response.status, response.count()), (200, count), "{}", response.body);
        next.cookie.clone_from(&client.cookie);
    }
    count
}

/// The first answer that is not a refusal: for as long as a snapshot is leased, a request may find
/// the session still there, and is told that it has ended when it writes.
fn first_after_the_end(client: &mut Client) -> Response {
    let since = Instant::now();
    loop {
        let response = client.get("/count").unwrap();
        if response.status != 409 {
            return response;
        }
        assert!(since.elapsed() < Duration::from_secs(1), "the end is not seen");
    }
}

#[test]
fn two_servers_and_the_tool_work_on_one_file_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let sockets = [listen(), listen()];
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
    let _servers = sockets.each_ref().map(|socket| Server::start(socket, &file));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (addresses, stop) = (addresses.clone(), stop.clone());
            std::thread::spawn(move || count(&addresses, &stop))
        })
        .collect();
    for round in 0..ROUNDS {
        let mut victim = Client::new(&addresses[round % 2]);
        assert_eq!(victim.get("/login/victim").unwrap().status, 200);
        let listed = json(&tool_says(&file, &["list", "--user", "victim", "--json"]));
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(victim.get("/count").unwrap().count(), 1);
        let ended = json(&tool_says(&file, &["expire", "--user", "victim", "--yes", "--json"]));
        assert_eq!(ended["ended"], 1);
        assert_eq!(first_after_the_end(&mut victim).count(), 1, "the ended session was used");
        json(&tool_says(&file, &["stats", "--json"]));
        json(&tool_says(&file, &["purge", "--json"]));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
}
