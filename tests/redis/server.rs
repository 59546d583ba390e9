//! Servers of the tests' own: one node, or a cluster of three on the loopback.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Whether the servers are installed. Where they have to be, a test without them fails.
pub fn is_installed() -> bool {
    let found = ["redis-server", "redis-cli"].iter().all(|program| {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    if !found {
        let required = std::env::var("FASTSESSION_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "redis-server and redis-cli are required, and not installed");
        eprintln!("SKIPPED: redis-server and redis-cli are not installed");
    }
    found
}

/// A running server, killed when dropped.
pub struct Node {
    child: Mutex<Option<Child>>,
    pub port: u16,
    dir: tempfile::TempDir,
    options: Vec<String>,
}

impl Node {
    /// Starts a server with these options besides those that keep it to itself.
    pub fn start(options: &[&str]) -> Self {
        // Somebody else may take the port in between: then another is tried.
        for _ in 0..20 {
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let options = options.iter().map(ToString::to_string).collect();
            let node = Self { child: Mutex::default(), port, dir, options };
            if node.run() {
                return node;
            }
        }
        panic!("no server can be started");
    }

    /// Starts it, again after [`Node::kill`]. False if it does not come up.
    pub fn run(&self) -> bool {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir", self.dir().to_str().unwrap()])
            .args(["--daemonize", "no", "--loglevel", "warning"])
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            let exited = self.child.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            if exited.is_some() {
                return false;
            }
            if self.answers() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn answers(&self) -> bool {
        let answer = self.try_cli(&["PING"]);
        ["PONG", "NOAUTH", "LOADING"].iter().any(|known| answer.contains(known))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `kill -9`.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// What `redis-cli` prints for a command.
    pub fn cli(&self, command: &[&str]) -> String {
        let answer = self.try_cli(command);
        assert!(!answer.starts_with("ERR"), "{command:?}: {answer}");
        answer
    }

    fn try_cli(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(command)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes that share the slots, and perhaps their replicas.
pub struct Cluster {
    pub nodes: Vec<Node>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_with(0, &[])
    }

    /// With so many replicas of each node, and more options.
    pub fn start_with(replicas: usize, options: &[&str]) -> Self {
        let own = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        ];
        let options = [&own[..], options].concat();
        let nodes: Vec<_> = (0..3 * (1 + replicas)).map(|_| Node::start(&options)).collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let cluster = Self { nodes };
        let began = Instant::now();
        let is_up = |node: &Node| {
            let replicates = node.cli(&["INFO", "replication"]).contains("role:slave")
                && !node.cli(&["INFO", "replication"]).contains("master_link_status:up");
            node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") && !replicates
        };
        while !cluster.nodes.iter().all(is_up) {
            assert!(began.elapsed() < Duration::from_secs(30), "the cluster does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    /// Until what was written to a node has reached its replica.
    pub fn await_replicas(&self, node: usize) {
        let info = || self.nodes[node].cli(&["INFO", "replication"]);
        let field = |info: &str, name: &str| {
            let place = info.find(name).map(|at| &info[at + name.len()..]);
            place.and_then(|rest| rest.split(['\r', '\n', ',']).next()).unwrap_or("").to_owned()
        };
        let began = Instant::now();
        loop {
            let info = info();
            if field(&info, ",offset=") == field(&info, "master_repl_offset:") {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "no replica follows: {info}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// The index of the node that serves `key`, and of another.
    pub fn owner_and_another(&self, key: &str) -> (usize, usize) {
        let serves = |node: &Node| {
            let answer = node.cli(&["EXISTS", key]);
            !answer.contains("MOVED") && !answer.contains("ASK")
        };
        let owner = self.nodes.iter().position(serves).unwrap();
        (owner, (owner + 1) % self.nodes.len())
    }

    /// Moves the slot of `key` and what is in it.
    pub fn move_slot(&self, key: &str, from: usize, to: usize) {
        let slot = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]);
        let ids = [from, to].map(|node| self.nodes[node].cli(&["CLUSTER", "MYID"]));
        let set = |node: usize, state: &[&str]| {
            let answer = self.nodes[node].cli(&[&["CLUSTER", "SETSLOT", &slot], state].concat());
            assert_eq!(answer, "OK");
        };
        set(to, &["IMPORTING", &ids[0]]);
        set(from, &["MIGRATING", &ids[1]]);
        loop {
            let keys = self.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let port = self.nodes[to].port.to_string();
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            self.nodes[from].cli(&[&migrate[..], &keys].concat());
        }
        for node in [to, from] {
            set(node, &["NODE", &ids[1]]);
        }
        for node in 0..self.nodes.len() {
            set(node, &["NODE", &ids[1]]);
        }
    }
}

/// A port that was free a moment ago, with room for the cluster's second one.
pub fn free_port() -> u16 {
    // Those given out are spread over a range that begins far below.
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 50_000 {
            return port;
        }
    }
}

/// The server that tests share, each with a prefix of its own; it lives as long as one uses it.
pub fn shared_node() -> Arc<Node> {
    static NODE: Mutex<Weak<Node>> = Mutex::new(Weak::new());
    shared(&NODE, || Node::start(&["--appendonly", "no"]))
}

pub fn shared_cluster() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    shared(&CLUSTER, Cluster::start)
}

fn shared<T>(place: &Mutex<Weak<T>>, start: impl Fn() -> T) -> Arc<T> {
    let mut place = place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = place.upgrade() {
        return server;
    }
    let server = Arc::new(start());
    *place = Arc::downgrade(&server);
    server
}

/// A prefix that no other test uses.
pub fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
