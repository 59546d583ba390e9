//! A server in a process of its own: this test binary, started again, on a socket it is handed.
//!
//! Told to leave (SIGTERM) it lets nobody new in, answers whoever is there with `Connection:
//! close`, and goes once nobody asks any more. Whoever has the same socket takes over.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderValue, header};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use fastsession::{CookieOptions, RedbStore, Session, SessionLayer, SessionStore};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const FILE: &str = "FASTSESSION_LIVE_FILE";
/// Whoever has a connection open asks more often than this.
const QUIET: Duration = Duration::from_millis(500);

/// A socket that servers are started on, one after the other or beside each other.
pub(crate) fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub(crate) struct Server {
    child: Child,
    /// How long it took to open the file.
    pub(crate) opened_in: Duration,
}

impl Server {
    /// Starts a server on `file`; it serves when this returns.
    pub(crate) fn start(listener: &TcpListener, file: &Path) -> Self {
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::server", "--ignored", "--nocapture"])
            .env(FILE, file)
            .stdin(Stdio::from(socket))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let opened_in = lines.find_map(|line| line.unwrap().strip_prefix("ready ")?.parse().ok());
        // What it prints at its end has somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        let opened_in = Duration::from_micros(opened_in.expect("the server failed"));
        Self { child, opened_in }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to leave, and waits until it has.
    pub(crate) fn leave(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "it did not leave in order");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "is what the server's process does"]
fn server() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(Path::new(&file)));
}

#[derive(Clone)]
struct Door {
    served: Arc<AtomicU64>,
    leaving: watch::Receiver<bool>,
}

async fn serve(file: &Path) {
    let since = Instant::now();
    let store = RedbStore::open(file).unwrap();
    let opened_in = since.elapsed();
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (leave, leaving) = watch::channel(false);
    let door = Door { served: Arc::default(), leaving: leaving.clone() };
    let sessions = SessionLayer::new(store.clone()).with_cookie(CookieOptions::insecure_http());
    let app = Router::new()
        .route("/count", get(count))
        .route("/read", get(read))
        .route("/login/{user}", get(login))
        .route("/logout", get(async |session: Session| session.destroy().await))
        .layer(sessions)
        .layer(map_response_with_state(door.clone(), pass));
    let mut told = signal(SignalKind::terminate()).unwrap();
    let gone = async move {
        told.recv().await;
        leave.send_replace(true);
        while {
            let before = door.served.load(Ordering::Relaxed);
            tokio::time::sleep(QUIET).await;
            door.served.load(Ordering::Relaxed) > before
        } {}
    };
    println!("\nready {}", opened_in.as_micros());
    axum::serve(Entrance { listener, leaving }, app).with_graceful_shutdown(gone).await.unwrap();
    store.close().await.unwrap();
}

/// The last answer of a connection says so.
async fn pass(State(door): State<Door>, mut response: Response) -> Response {
    door.served.fetch_add(1, Ordering::Relaxed);
    if *door.leaving.borrow() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Lets connections in until the process is told to leave.
struct Entrance {
    listener: tokio::net::TcpListener,
    leaving: watch::Receiver<bool>,
}

impl Listener for Entrance {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        tokio::select! {
            biased;
            _ = self.leaving.changed() => std::future::pending().await,
            accepted = Listener::accept(&mut self.listener) => accepted,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn counter(count: u64) -> Json<Value> {
    Json(json!({ "test_counter": count }))
}

async fn count(session: Session) -> fastsession::Result<Json<Value>> {
    let count = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(counter(count))
}

/// 0 for whoever has no session.
async fn read(session: Session) -> fastsession::Result<Json<Value>> {
    Ok(counter(session.get("n").await?.unwrap_or(0)))
}

async fn login(
    session: Session,
    UrlPath(user): UrlPath<String>,
) -> fastsession::Result<Json<Value>> {
    let count = session.get("n").await?.unwrap_or(0);
    session.login(user).await?;
    Ok(counter(count))
}
