//! The stores of tower-sessions.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tempfile::TempDir;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config, Pool};
use tower_sessions_sqlx_store::SqliteStore;

/// Connections of Redis' pool.
const CONNECTIONS: u8 = 8;

/// How many connections sqlx opens unless told otherwise: what an application has that follows
/// the documentation of the store.
pub(crate) const SQLX_DEFAULT: u32 = 10;

/// SQLite with a write-ahead log, and so many connections to it.
pub(crate) async fn sqlite(
    path: &Path,
    synchronous: SqliteSynchronous,
    connections: u32,
) -> SqliteStore {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(Duration::from_secs(60));
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(60))
        .connect_with(options)
        .await
        .expect("an SQLite file");
    let store = SqliteStore::new(pool);
    store.migrate().await.expect("an SQLite table");
    store
}

/// A server of our own that syncs before each answer; killed when dropped.
pub(crate) struct Redis {
    server: Child,
    pool: Pool,
    /// Of the server.
    pub(crate) url: String,
    _folder: TempDir,
}

impl Redis {
    /// `None` if `redis-server` is not installed.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// The same, durable or not.
    pub(crate) async fn start_with(durability: &[&str]) -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let port = free_port();
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", ""])
            .args(durability)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let started = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), started).await.expect("redis-server starts");
        let url = format!("redis://127.0.0.1:{port}");
        let config = Config::from_url(&url).expect("an address");
        let pool = Pool::new(config, None, None, None, CONNECTIONS.into()).expect("a pool");
        pool.connect();
        pool.wait_for_connect().await.expect("redis-server answers");
        Some(Self { server, pool, url, _folder: folder })
    }

    pub(crate) fn process(&self) -> u32 {
        self.server.id()
    }

    pub(crate) fn store(&self) -> RedisStore<Pool> {
        RedisStore::new(self.pool.clone())
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
