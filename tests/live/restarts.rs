//! A new server takes over the socket before the old one goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::Client;
use crate::server::{Server, listen};
use crate::times;

const CLIENTS: usize = 6;

#[test]
fn a_rolling_restart_fails_no_request_and_loses_no_session() {
    let restarts = times("FASTSESSION_RESTARTS", 3);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let listener = listen();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = Server::start(&listener, &file);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (mut client, stop) = (Client::new(&address), stop.clone());
            std::thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let response = client.get("/count");
                    let response = response.unwrap_or_else(|e| panic!("client {number}: {e}"));
                    assert_eq!(response.status, 200, "client {number}: {}", response.body);
                    count += 1;
                    assert_eq!(response.count(), count, "client {number} lost its session");
                }
                (count, client.connections)
            })
        })
        .collect();
    for _ in 0..restarts {
        std::thread::sleep(Duration::from_millis(100));
        let next = Server::start(&listener, &file);
        server.leave();
        server = next;
    }
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    let (mut requests, mut connections) = (0, 0);
    for client in clients {
        let (count, used) = client.join().unwrap();
        requests += count;
        connections += used;
        // Some may have been let in by the newer server at once.
        assert!(used > 1, "a client never met another server");
    }
    println!(
        "\n| rolling restart, {CLIENTS} clients that honour `Connection: close` | {restarts} | \
         {requests} requests on {connections} connections; failed 0, sessions lost 0 |"
    );
}
