//! An application and the command-line tool on one server, each in a process of its own.

use std::process::Output;
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Json, Router};
use fastsession::{CookieOptions, RedisStore, Session, SessionLayer, SessionStore};
use serde_json::{Value, json};

use crate::common::{Client, tool};
use crate::server::{self, Node};

/// A counter with login, on the server at `url`, and a client of it.
async fn serve(url: &str) -> Client {
    serve_on(RedisStore::builder(url).wait(Duration::from_secs(1)).connect().unwrap()).await
}

/// The same on this store.
pub async fn serve_on(store: RedisStore) -> Client {
    let sessions = SessionLayer::new(store).with_cookie(CookieOptions::insecure_http());
    let app = Router::new()
        .route("/session_test", get(count))
        .route("/login", get(async |session: Session| session.login("alice").await))
        .route("/id", get(id))
        .route("/free", get(async || "needs no session"))
        .layer(sessions);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Client::new(&address)
}

async fn count(session: Session) -> fastsession::Result<Json<Value>> {
    let count = session.update("test_counter", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(Json(json!({ "test_counter": count })))
}

async fn id(session: Session) -> fastsession::Result<String> {
    Ok(session.id().await?.map(|id| id.to_string()).unwrap_or_default())
}

/// Runs the tool on the server at `url`.
fn run(url: &str, args: &[&str]) -> Output {
    tool().env("FASTSESSION_DB", url).args(args).output().unwrap()
}

fn succeeds(url: &str, args: &[&str]) -> String {
    let output = run(url, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(url: &str, args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(url, &[args, &["--json"]].concat())).unwrap()
}

/// What the README shows of the tool, on a server with a password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_path_on_one_server_while_the_application_serves() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&["--requirepass", "battery-staple"]);
    let url = format!("redis://:battery-staple@127.0.0.1:{}/?prefix=shop", node.port);
    let mut client = serve(&url).await;
    let path = || "/session_test";
    let (url, node) = (url, node);
    tokio::task::spawn_blocking(move || {
        assert_eq!(client.get(path()).unwrap().count(), 1);
        assert_eq!(client.get("/login").unwrap().status, 200);
        assert_eq!(client.get(path()).unwrap().count(), 2);
        let listed = json_of(&url, &["list"]);
        let id = listed[0]["id"].as_str().unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["user"], "alice");
        let shown = succeeds(&url, &["inspect", &id[..8]]);
        assert!(shown.contains("test_counter"), "{shown}");
        assert_eq!(json_of(&url, &["stats"])["sessions"]["live"], 1);

        // The application signs with the new key within a second.
        let before = client.cookie.clone();
        succeeds(&url, &["key", "rotate"]);
        let began = Instant::now();
        while client.cookie == before {
            assert!(began.elapsed() < Duration::from_secs(1), "the rotation is not followed");
            client.get(path()).unwrap();
        }
        assert_eq!(json_of(&url, &["key", "list"]).as_array().unwrap().len(), 2);

        assert_eq!(json_of(&url, &["expire", "--user", "alice", "--yes"])["ended"], 1);
        assert_eq!(client.get(path()).unwrap().count(), 1, "an ended session was served");
        let over = json_of(&url, &["list", "--state", "ended"]);
        assert_eq!(over.as_array().unwrap().len(), 1, "{over}");
        assert!(json_of(&url, &["purge"])["purged"].as_u64().unwrap() >= 1);
        assert_eq!(json_of(&url, &["list"]).as_array().unwrap().len(), 1);

        // What a server does not have is said, and the password is not.
        for (args, says) in [
            (&["log"][..], "keeps no log"),
            (&["check"], "about a session file"),
            (&["init"], "has sessions under the prefix shop"),
            (&["list", "--db", "redis://:battery-staple@127.0.0.1:1/"], "cannot be reached"),
            (&["list", "redis://:battery-staple@127.0.0.1:1/"], "unexpected"),
            (&["list", "--db", "redis://:battery-staples@127.0.0.1:1x/"], "not the URL"),
        ] {
            let output = run(&url, args);
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(text.contains(says), "{args:?}: {text}");
            assert!(!text.contains("battery"), "{args:?}: {text}");
        }
        let missing = run(&url.replace("shop", "none"), &["list"]);
        let text = String::from_utf8(missing.stderr).unwrap();
        assert_eq!(missing.status.code(), Some(1));
        assert!(text.contains("no database") && text.contains("FASTSESSION_DB"), "{text}");
        drop(node);
    })
    .await
    .unwrap();
}

/// Without its server the application answers 503, soon, and leaves the cookie alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_without_the_server_requests_get_503_and_keep_their_cookie() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut client = serve(&node.url()).await;
    tokio::task::spawn_blocking(move || {
        assert_eq!(client.get("/session_test").unwrap().count(), 1);
        node.kill();
        for _ in 0..3 {
            let began = Instant::now();
            let response = client.get("/session_test").unwrap();
            assert_eq!(response.status, 503);
            assert!(response.header("retry-after").is_some());
            assert!(response.header("set-cookie").is_none());
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        }
        assert!(node.run(), "it does not start again");
        let began = Instant::now();
        loop {
            let response = client.get("/session_test").unwrap();
            if response.status == 200 {
                // Each of those that failed may have been carried out, or not.
                assert!(response.count() >= 2, "the session was lost");
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "it does not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
    })
    .await
    .unwrap();
}

/// A server that hangs costs the requests that need it their deadline, and no others anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_17_a_server_that_hangs_is_503_in_time_and_others_are_served() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&["--enable-debug-command", "local"]);
    let mut client = serve(&node.url()).await;
    tokio::task::spawn_blocking(move || {
        assert_eq!(client.get("/session_test").unwrap().count(), 1);
        let port = node.port.to_string();
        let mut sleeps = std::process::Command::new("redis-cli")
            .args(["-p", &port, "DEBUG", "SLEEP", "3"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut cookie_kept = client.cookie.clone();
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            let response = client.get("/session_test").unwrap();
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
            if response.status == 503 {
                assert!(response.header("retry-after").is_some());
                assert!(response.header("set-cookie").is_none());
                break;
            }
            cookie_kept.clone_from(&client.cookie);
            assert!(began.elapsed() < Duration::from_secs(3), "the server does not hang");
        }
        assert_eq!(client.get("/free").unwrap().status, 200);
        assert_eq!(client.cookie, cookie_kept);
        sleeps.wait().unwrap();
        let began = Instant::now();
        while client.get("/session_test").unwrap().status != 200 {
            assert!(began.elapsed() < Duration::from_secs(10), "it does not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_holds_the_keys_is_known_to_the_tool() {
    if !server::is_installed() {
        return;
    }
    let node = Node::start(&[]);
    let ring = fastsession::KeyRing::new([fastsession::Key::generate().unwrap()]).unwrap();
    let store = RedisStore::builder(&node.url()).key_ring(ring).connect().unwrap();
    let output = run(&node.url(), &["key", "list"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("the application holds the keys"), "{text}");
    store.close().await.unwrap();
}
