//! Requests a second over loopback, by wrk, each with the cookie of one of 10,000 sessions.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::routing::get;
use fastsession::{CookieOptions, MemoryStore, Result, Session, SessionLayer};
use tempfile::TempDir;

use crate::apps::{floor, keeping};
use crate::browser::Browser;
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

/// First argument of a serving process.
pub(crate) const SERVER: &str = "server";

const SESSIONS: usize = 10_000;

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Requests a second over loopback, MemoryStore");
    if Command::new("wrk").arg("--version").output().is_err() {
        report.skipped("read, write", "wrk is not installed");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let [bare, floor, keeping, ours] = ["bare", "floor", "keeping", "ours"].map(Server::start);
    let script = |name: &str, server: &Server| {
        let path = folder.path().join(name);
        write_script(&path, &server.cookies);
        path
    };
    let own_script = script("ours.lua", &ours);
    let others = [
        ("the least that any layer can do", script("floor.lua", &floor), &floor),
        ("the least that keeps what a session promises", script("keeping.lua", &keeping), &keeping),
    ];
    let seconds = effort.pick(5, 1);
    let kinds = [("read", "/read", 0.95), ("write", "/count", 0.9)];
    for (name, path, goal) in kinds {
        let mut rounds = Rounds::default();
        let mut least = [(); 2].map(|()| Rounds::default());
        for _ in 0..effort.pick(7, 1) {
            let own = wrk(&ours, path, &own_script, seconds);
            let bare = wrk(&bare, path, &own_script, seconds);
            rounds.add(own, bare);
            for ((_, script, server), rounds) in others.iter().zip(&mut least) {
                rounds.add(wrk(server, path, script, seconds), bare);
            }
        }
        report.add(rounds.row(name, "bare axum", "1/s", Goal::AtLeast(goal)));
        for ((what, ..), rounds) in others.iter().zip(&least) {
            report.add(rounds.row(format!("{what}: {name}"), "bare axum", "1/s", Goal::Report));
        }
    }
}

struct Server {
    process: Child,
    address: String,
    cookies: Vec<String>,
}

impl Server {
    fn start(app: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args([SERVER, app])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let address = lines.next().expect("an address").expect("text");
        let cookies = lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
        let cookies = cookies.map_while(std::result::Result::ok).collect();
        Self { process, address, cookies }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a serving process does: says its address and cookies, and serves until it is killed.
pub(crate) fn serve(app: &str) {
    load::runtime().block_on(async {
        let app = match app {
            "ours" => counter(),
            "floor" => floor::router(),
            "keeping" => keeping::router(),
            _ => bare(),
        };
        let cookies = cookies(&app).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("its address"));
        cookies.iter().for_each(|cookie| println!("{cookie}"));
        println!();
        axum::serve(listener, app).await.expect("it serves");
    });
}

fn bare() -> Router {
    Router::new().route("/read", get(async || "1")).route("/count", get(async || "1"))
}

fn counter() -> Router {
    let store = MemoryStore::new().expect("a store");
    let layer = SessionLayer::new(store).with_cookie(CookieOptions::insecure_http());
    Router::new().route("/read", get(read)).route("/count", get(count)).layer(layer)
}

async fn read(session: Session) -> Result<String> {
    Ok(session.get_or_default::<u64>("n").await?.to_string())
}

async fn count(session: Session) -> Result<String> {
    let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

async fn cookies(app: &Router) -> Vec<String> {
    let mut cookies = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let mut browser = Browser::new(app);
        browser.get("/count").await;
        cookies.extend(browser.cookie());
    }
    cookies.iter().map(|cookie| cookie.to_str().expect("text").to_owned()).collect()
}

fn write_script(path: &Path, cookies: &[String]) {
    let mut file = std::fs::File::create(path).expect("a file");
    let list: Vec<_> = cookies.iter().map(|cookie| format!("{cookie:?}")).collect();
    let script = format!(
        "local cookies = {{ {} }}\nlocal requests, next = {{}}, 0\n\
         function init() for i, cookie in ipairs(cookies) do \
         requests[i] = wrk.format(nil, nil, {{ cookie = cookie }}) end end\n\
         function request() next = next % #requests + 1; return requests[next] end\n",
        list.join(", ")
    );
    file.write_all(script.as_bytes()).expect("it is written");
}

/// Requests a second. The bare server gets the same cookies.
fn wrk(server: &Server, path: &str, script: &Path, seconds: u32) -> f64 {
    let output = Command::new("wrk")
        .args(["-t1", "-c64", &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://{}{path}", server.address))
        .output()
        .expect("wrk runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Non-2xx"), "{text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.expect("a rate").trim().parse().expect("a number")
}
