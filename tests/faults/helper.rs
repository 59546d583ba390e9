//! Another process on the same file: this test binary, started again.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use fastsession::{Error, RedbStore};
use redb::backends::FileBackend;
use redb::{ConcurrencyMode, Database, StorageBackend};
use rustix::process::{Pid, Signal, kill_process};

const TASK: &str = "FASTSESSION_FAULTS_TASK";
const FILE: &str = "FASTSESSION_FAULTS_FILE";
/// What redb's lock of its header covers.
const HEADER_BYTES: u64 = 320;

/// A process that holds a lock until it is told to let go.
pub(crate) struct Holder {
    child: Child,
    stdin: ChildStdin,
}

impl Holder {
    /// Holds the lock of whoever writes.
    pub(crate) fn of_write_lock(file: &Path) -> Self {
        Self::start("hold-write", file)
    }

    /// Holds the lock of whoever looks at the header, as everybody does for a moment.
    pub(crate) fn of_header_lock(file: &Path) -> Self {
        Self::start("hold-header", file)
    }

    /// Has the lock and is stopped when this returns.
    fn start(task: &str, file: &Path) -> Self {
        let mut child = command(task, file).stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"), "the helper failed");
        // What it prints at its end has somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        let holder = Self { child, stdin };
        holder.signal(Signal::STOP);
        holder
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lets it go on, and let go of the lock.
    pub(crate) fn go_on(mut self) {
        self.stdin.write_all(b"\n").unwrap();
        self.signal(Signal::CONT);
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(task: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "helper::helper", "--ignored", "--nocapture"])
        .env(TASK, task)
        .env(FILE, file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a process of user and group `id` is told when it opens `file`. `None` if this process may
/// not become that user.
pub(crate) fn open_as(id: u32, file: &Path) -> Option<String> {
    // A copy, since that user may not reach the folder this program was built in.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("opener");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let own = command("open", file);
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".into()])
        .arg(program)
        .args(own.get_args())
        .envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| line.strip_prefix("said: ").map(str::to_owned));
    if said.is_none() {
        println!("{}", String::from_utf8_lossy(&output.stderr));
    }
    said
}

/// What kind of error it is, and what it says.
pub(crate) fn said(error: &Error) -> String {
    let kind = match () {
        () if error.is_forbidden() => "forbidden",
        () if error.is_invalid() => "invalid",
        () if error.is_in_use() => "in use",
        () => "another",
    };
    format!("{kind}: {error}")
}

#[test]
#[ignore = "is what the other process does"]
fn helper() {
    let Ok(task) = std::env::var(TASK) else { return };
    let file = std::env::var_os(FILE).unwrap();
    let wait_until_told = || {
        println!("\nready");
        let _ = std::io::stdin().read(&mut [0]);
    };
    match task.as_str() {
        "hold-write" => {
            let backend = FileBackend::new(open(&file)).unwrap();
            let mut builder = Database::builder();
            builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
            let database = builder.create_with_backend(backend).unwrap();
            let _txn = database.begin_write().unwrap();
            wait_until_told();
        }
        "hold-header" => {
            let backend = FileBackend::new(open(&file)).unwrap();
            backend.lock_range(Bound::Included(0), Bound::Excluded(HEADER_BYTES)).unwrap();
            wait_until_told();
        }
        "open" => match RedbStore::open(&file) {
            Ok(_) => println!("\nsaid: opened"),
            Err(error) => println!("\nsaid: {}", said(&error)),
        },
        other => panic!("{other}?"),
    }
}

fn open(file: &std::ffi::OsStr) -> fs::File {
    fs::File::options().read(true).write(true).open(file).unwrap()
}
