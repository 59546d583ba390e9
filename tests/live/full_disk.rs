//! A disk that fills up under a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Server, tool_says};
use crate::mount::Mount;

/// Visitors that come at once, each for the first time, until `refusals` of them are refused or
/// `most` have come.
fn visitors(server: &Server, most: u64, refusals: u64) -> u64 {
    let (came, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = server.client();
                while came.fetch_add(1, Ordering::Relaxed) < most
                    && refused.load(Ordering::Relaxed) < refusals
                {
                    client.cookie = None;
                    let status = client.get("/session_test").unwrap().status;
                    assert!(status == 200 || status == 503, "{status}");
                    refused.fetch_add(u64::from(status == 503), Ordering::Relaxed);
                }
            });
        }
    });
    refused.into_inner()
}

#[test]
fn rule_19_a_purge_beside_a_server_makes_room_on_a_full_disk() {
    let Some(mount) = Mount::new("size=16m") else { return };
    let file = mount.sessions();
    let server = Server::start("counter", &file);
    assert_eq!(visitors(&server, 400, 1), 0);
    mount.fill_but(1500 << 10);
    // How many pages are left when the disk is found to be full is chance.
    for _ in 0..4 {
        assert!(visitors(&server, 20_000, 300) >= 300, "the disk is not full");
        tool_says(&file, &["expire", "--all", "--yes"]);
        tool_says(&file, &["purge", "--expired"]);
        assert_eq!(tool_says(&file, &["list", "--state", "all", "--format", "ids"]), "");
        let (mut client, since) = (server.client(), Instant::now());
        while client.get("/session_test").unwrap().status != 200 {
            assert!(since.elapsed() < Duration::from_secs(10), "there is room, and no service");
            std::thread::sleep(Duration::from_millis(50));
        }
        tool_says(&file, &["check"]);
    }
}
