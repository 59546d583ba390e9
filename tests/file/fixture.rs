//! A session file in a folder of its own, and sessions in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastsession::record::Changes;
use fastsession::store::{Access, Commit, Draft, Login, Op, Outcome, RedbStoreBuilder};
use fastsession::{Clock, RedbStore, SessionId, SessionStore, SessionToken, Timestamp};
use tempfile::TempDir;

pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) clock: Clock,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Clock::manual(START) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("sessions.redb")
    }

    pub(crate) fn builder(&self) -> RedbStoreBuilder {
        RedbStore::builder(self.path()).clock(self.clock.clone()).without_sweeping()
    }

    pub(crate) fn open(&self) -> RedbStore {
        self.builder().open().unwrap()
    }
}

pub(crate) async fn create(store: &RedbStore, user: Option<&str>) -> SessionId {
    let id = SessionToken::generate().unwrap().id();
    let login = user.map(|user| Login { user: user.into(), cap: None });
    let mut changes = Changes::new();
    changes.set("k", vec![1; 200]).unwrap();
    let draft = Draft { changes, ..Draft::default() };
    let op = Op::Create { realm: None, draft, login };
    let commit = Commit { id, access: Access::at(START), max_data_bytes: 65_536, op };
    assert!(matches!(store.commit(commit).await.unwrap(), Outcome::Committed(_)));
    id
}

/// What the tool did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Runs the tool on `file`, without a terminal.
pub(crate) fn tool(file: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastsession"));
    let output = command.arg("--db").arg(file).args(args).stdin(Stdio::null()).output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// How often to do something: `default`, unless the environment variable `name` says otherwise.
pub(crate) fn rounds(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |rounds| rounds.parse().unwrap())
}
