//! `kill -9` under load, with the answers written down by another process: this one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::Client;
use crate::server::{Server, listen};
use crate::times;

const VISITORS: usize = 8;
/// How many cookies of ended sessions each visitor tries again after every kill.
const REPLAYED: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The first one creates the session.
    Count,
    Login,
    Logout,
}

impl Step {
    fn path(self, visitor: usize) -> String {
        match self {
            Self::Count => "/count".into(),
            Self::Login => format!("/login/user{visitor}"),
            Self::Logout => "/logout".into(),
        }
    }
}

/// A visitor, and what was acknowledged to it.
struct Visitor {
    number: usize,
    client: Client,
    steps: u64,
    count: u64,
    /// Cookies whose session was destroyed or renewed.
    over: Vec<String>,
    /// What had no answer when the server died.
    unanswered: Option<Step>,
}

/// What became of all steps.
#[derive(Default)]
struct Tally {
    acknowledged: u64,
    landed: u64,
    absent: u64,
    /// Sessions acknowledged as over that were asked for again.
    replayed: u64,
}

impl Visitor {
    fn new(number: usize, address: &str) -> Self {
        let client = Client::new(address);
        Self { number, client, steps: 0, count: 0, over: Vec::new(), unanswered: None }
    }

    fn next_step(&mut self) -> Step {
        self.steps += 1;
        match self.steps % 11 {
            _ if self.client.cookie.is_none() => Step::Count,
            4 | 7 => Step::Login,
            10 => Step::Logout,
            _ => Step::Count,
        }
    }

    /// Goes on until there is no answer, or until told to stop. Returns how many there were.
    fn visit(&mut self, stop: &AtomicBool) -> u64 {
        let mut acknowledged = 0;
        while !stop.load(Ordering::Relaxed) {
            let step = self.next_step();
            let before = self.client.cookie.clone();
            let Ok(response) = self.client.get(&step.path(self.number)) else {
                self.client.cookie = before;
                self.unanswered = Some(step);
                break;
            };
            assert_eq!(response.status, 200, "{step:?}: {}", response.body);
            acknowledged += 1;
            match step {
                Step::Count => {
                    self.count += 1;
                    assert_eq!(response.count(), self.count, "visitor {}", self.number);
                }
                Step::Login => {
                    assert_eq!(response.count(), self.count, "visitor {}", self.number);
                    self.over.extend(before);
                }
                Step::Logout => {
                    assert_eq!(self.client.cookie, None, "the cookie was not deleted");
                    self.over.extend(before);
                    self.count = 0;
                }
            }
        }
        acknowledged
    }

    /// Compares what the new server has with what the old one acknowledged.
    fn verify(&mut self, tally: &mut Tally) {
        for cookie in self.over.iter().rev().take(REPLAYED) {
            let mut thief = self.client.again();
            thief.cookie = Some(cookie.clone());
            let read = thief.get("/read").unwrap().count();
            assert_eq!(read, 0, "visitor {}: a session that was over is back", self.number);
            tally.replayed += 1;
        }
        // Its connection was the old one's.
        let mut client = self.client.again();
        client.cookie = self.client.cookie.take();
        self.client = client;
        let unanswered = self.unanswered.take();
        if self.client.cookie.is_none() {
            return;
        }
        let found = self.client.get("/read").unwrap().count();
        let landed = match unanswered {
            Some(Step::Count) => found == self.count + 1,
            // The session is over for this cookie; the new one never arrived.
            Some(Step::Login | Step::Logout) => found == 0,
            None => false,
        };
        let expected = if landed { found } else { self.count };
        assert_eq!(found, expected, "visitor {}, {unanswered:?}: lost", self.number);
        self.count = found;
        if unanswered.is_some() {
            *(if landed { &mut tally.landed } else { &mut tally.absent }) += 1;
        }
        if found == 0 {
            self.over.extend(self.client.cookie.take());
        }
    }
}

fn kill(server: Server, listener: &std::net::TcpListener, file: &Path) -> Server {
    server.kill();
    Server::start(listener, file)
}

#[test]
fn rule_03_kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let kills = times("FASTSESSION_KILLS", 10);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let listener = listen();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = Server::start(&listener, &file);
    let mut visitors: Vec<_> = (0..VISITORS).map(|n| Visitor::new(n, &address)).collect();
    let (mut tally, mut longest, mut in_vain) = (Tally::default(), Duration::ZERO, 0);
    for round in 0..kills {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |mut visitor: Visitor| {
            let stop = stop.clone();
            std::thread::spawn(move || (visitor.visit(&stop), visitor))
        };
        let running: Vec<_> = visitors.into_iter().map(start).collect();
        std::thread::sleep(Duration::from_millis(30 + round * 37 % 120));
        server = kill(server, &listener, &file);
        longest = longest.max(server.opened_in);
        // Who connected in between is served by the new one.
        stop.store(true, Ordering::Relaxed);
        visitors = Vec::new();
        for visitor in running {
            let (acknowledged, visitor) = visitor.join().unwrap();
            tally.acknowledged += acknowledged;
            in_vain += u64::from(visitor.unanswered.is_some());
            visitors.push(visitor);
        }
        for visitor in &mut visitors {
            visitor.verify(&mut tally);
        }
    }
    let Tally { acknowledged, landed, absent, replayed } = tally;
    println!(
        "\n| `kill -9` under load, {VISITORS} visitors | {kills} | {acknowledged} answers \
         acknowledged; {in_vain} requests without one, of which {landed} had landed and {absent} \
         had not (of the others nobody was given a cookie to ask with); {replayed} cookies of \
         ended sessions tried again; lost 0, revived 0; the longest opening took {longest:.0?} |"
    );
    assert!(in_vain >= kills, "the server was killed while nobody asked");
    assert!(longest < Duration::from_secs(1), "opening took {longest:?}");
}
