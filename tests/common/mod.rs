//! Real processes, real sockets: the example servers, the command-line tool, a browser's cookies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// The command-line tool.
pub fn tool() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fastsession"))
}

/// An example's program, built beside the tool.
pub fn example(name: &str) -> PathBuf {
    let path = examples().join(name);
    if !path.exists() {
        build_example(name);
    }
    path
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_fastsession")).parent().unwrap().join("examples")
}

/// Builds an example as it stands now.
pub fn build_example(name: &str) {
    let profile = if examples().parent().unwrap().ends_with("release") { "release" } else { "dev" };
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--example", name])
        .args(["--features", &features().join(","), "--profile", profile])
        .status();
    assert!(built.unwrap().success(), "example {name} does not build");
    assert!(examples().join(name).exists(), "{name} is built, but not where this test is");
}

/// What this test was built with besides the default features. What it builds itself has the same,
/// so that nothing is compiled once more for it.
pub fn features() -> Vec<&'static str> {
    [
        ("redis", cfg!(feature = "redis")),
        ("redis-tls", cfg!(feature = "redis-tls")),
        ("tower-sessions", cfg!(feature = "tower-sessions")),
        ("metrics", cfg!(feature = "metrics")),
    ]
    .iter()
    .filter_map(|(name, is_enabled)| is_enabled.then_some(*name))
    .collect()
}

/// A running example server, killed when dropped.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Starts `name` on a free port, on the session file `file`, and waits until it serves.
    pub fn start(name: &str, file: &Path) -> Self {
        Self::start_with(name, file, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(name: &str, file: &Path, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(example(name)).arg("127.0.0.1:0").arg(file).args(arguments))
    }

    /// The same on the server at `url`, in an environment.
    pub fn start_under(name: &str, url: &str, environment: &[(&str, &std::ffi::OsStr)]) -> Self {
        let environment = environment.iter().copied();
        Self::spawn(Command::new(example(name)).args(["127.0.0.1:0", url]).envs(environment))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        // It says where it serves once it does.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("http://").and_then(|rest| rest.split(' ').next());
        let address =
            address.unwrap_or_else(|| panic!("{command:?} does not serve: {line}")).to_owned();
        Self { child, address }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client with one connection and a jar for one cookie.
pub struct Client {
    pub address: String,
    stream: Option<BufReader<TcpStream>>,
    /// `name=value`
    pub cookie: Option<String>,
    /// How many it has made.
    pub connections: u64,
}

pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `{"test_counter": n}`
    pub fn count(&self) -> u64 {
        let value: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        value["test_counter"].as_u64().unwrap()
    }
}

impl Client {
    pub fn new(address: &str) -> Self {
        Self { address: address.into(), stream: None, cookie: None, connections: 0 }
    }

    /// Another one of the same server, without a cookie.
    pub fn again(&self) -> Self {
        Self::new(&self.address)
    }

    /// The same cookie, sent to another server.
    pub fn moved_to(&self, server: &Server) -> Self {
        Self { cookie: self.cookie.clone(), ..Self::new(&server.address) }
    }

    pub fn get(&mut self, path: &str) -> std::io::Result<Response> {
        self.request("GET", path, "")
    }

    pub fn post(&mut self, path: &str, form: &str) -> std::io::Result<Response> {
        self.request("POST", path, form)
    }

    fn request(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Response> {
        let result = self.exchange(method, path, body);
        match &result {
            Ok(response) => {
                if let Some(set) = response.header("set-cookie") {
                    let pair = set.split(';').next().unwrap_or_default().to_owned();
                    let deleted = set.contains("Max-Age=0");
                    self.cookie = (!deleted).then_some(pair);
                }
                if response.header("connection") == Some("close") {
                    self.stream = None;
                }
            }
            Err(_) => self.stream = None,
        }
        result
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Response> {
        let cookie =
            self.cookie.as_ref().map(|pair| format!("Cookie: {pair}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            self.stream = Some(BufReader::new(stream));
            self.connections += 1;
        }
        let Some(stream) = &mut self.stream else { unreachable!("connected above") };
        stream.get_mut().write_all(head.as_bytes())?;
        read_response(stream)
    }
}

fn read_response(stream: &mut BufReader<TcpStream>) -> std::io::Result<Response> {
    let eof = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(eof());
    }
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(eof)?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(eof());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    stream.read_exact(&mut body)?;
    Ok(Response { status, headers, body: String::from_utf8(body).unwrap() })
}

/// Runs the tool on `file` and answers its output.
pub fn run_tool(file: &Path, args: &[&str]) -> Output {
    tool().args(args).arg("--db").arg(file).stdin(Stdio::null()).output().unwrap()
}

/// The same, which must succeed; its standard output.
pub fn tool_says(file: &Path, args: &[&str]) -> String {
    let output = run_tool(file, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {:?} {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
