//! axum-login on a session file: in this process, and the example with the command-line tool.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::common;

/// A server in a process of its own, killed when dropped.
pub(super) struct Server {
    pub(super) child: Child,
    /// With its scheme.
    pub(super) address: String,
}

impl Server {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(common::example("axum_login"))
            .arg("127.0.0.1:0")
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().next().unwrap().to_owned();
        Self { child, address }
    }

    pub(super) async fn ask(&self, path: &str, form: Option<&str>, cookie: Option<&str>) -> Answer {
        let url = format!("{}{path}", self.address);
        let mut request = match form {
            Some(_) => {
                Request::post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            }
            None => Request::get(url),
        };
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let body = Full::new(Bytes::from(form.unwrap_or_default().to_owned()));
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = |name| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        let cookie = text(header::SET_COOKIE);
        Answer {
            status: parts.status,
            location: text(header::LOCATION),
            cookie: cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned()),
            body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        }
    }

    async fn sign_in(&self, name: &str, password: &str) -> Answer {
        self.ask("/login", Some(&format!("name={name}&password={password}")), None).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) cookie: Option<String>,
    pub(super) body: String,
}

pub(super) fn tool(file: &Path, args: &[&str]) -> String {
    let bin = env!("CARGO_BIN_EXE_fastsession");
    let output = Command::new(bin).arg("--db").arg(file).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn axum_login_runs_on_a_session_file_and_the_tool_ends_its_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let mut server = Server::start(&file);

    let refused = server.ask("/", None, None).await;
    assert_eq!(refused.location.as_deref().and_then(|to| to.get(..6)), Some("/login"));
    assert_eq!(server.sign_in("ferris", "wrong").await.location.as_deref(), Some("/login"));

    let one = server.sign_in("ferris", "hunter42").await.cookie.unwrap();
    let two = server.sign_in("ferris", "hunter42").await.cookie.unwrap();
    let other = server.sign_in("corro", "hunter43").await.cookie.unwrap();
    for (cookie, name) in [(&one, "ferris"), (&two, "ferris"), (&other, "corro")] {
        let home = server.ask("/", None, Some(cookie)).await;
        assert!(home.status.is_success() && home.body.contains(name), "{}", home.body);
    }

    let listed =
        tool(&file, &["list", "--user", "1", "--realm", "tower-sessions", "--format", "ids"]);
    assert_eq!(listed.lines().count(), 2);

    server.ask("/logout", Some(""), Some(&two)).await;
    assert!(!server.ask("/", None, Some(&two)).await.status.is_success());
    assert!(server.ask("/", None, Some(&one)).await.status.is_success());

    // Sessions outlive the server.
    drop(server);
    server = Server::start(&file);
    assert!(server.ask("/", None, Some(&one)).await.status.is_success());

    tool(&file, &["expire", "--user", "1", "--yes"]);
    let mut alive = true;
    for _ in 0..100 {
        alive = server.ask("/", None, Some(&one)).await.status.is_success();
        if !alive {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!alive, "ended by the tool");
    assert!(server.ask("/", None, Some(&other)).await.status.is_success());
}
