//! The tool in front of a real terminal, and in a pipe.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command as PtyCommand, Pty};
use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a busy machine: what does not come by then never does.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const TOOL: &str = env!("CARGO_BIN_EXE_fastsession");

/// Variables that would change what is shown.
const UNSET: [&str; 4] = ["FASTSESSION_DB", "NO_COLOR", "SUDO_USER", "CLICOLOR_FORCE"];

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("no exit code: {self:?}"))
    }

    /// It must have exited with `code`.
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        self
    }
}

/// The tool in the folder `dir`, with `args` and nothing else around it.
pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(dir: &Path, args: &[S]) -> Command {
    let mut command = Command::new(TOOL);
    command.args(args).current_dir(dir);
    for name in UNSET {
        command.env_remove(name);
    }
    command
}

/// Runs it in pipes, with `stdin` on its standard input.
pub(crate) fn piped<S: AsRef<std::ffi::OsStr>>(dir: &Path, args: &[S], stdin: &str) -> Ran {
    let mut command = command(dir, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may well end before it has read everything.
    let mut input = child.stdin.take().unwrap();
    let text = stdin.to_owned();
    let writer = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { status: output.status, out: text(output.stdout), err: text(output.stderr) }
}

type Screen = Arc<(Mutex<Vec<u8>>, Condvar)>;

/// A command in front of a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    screen: Screen,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts the tool on a terminal of `columns`.
    pub(crate) fn start(dir: &Path, args: &[&str], columns: u16, env: &[(&str, &str)]) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(Size::new(40, columns)).unwrap();
        let mut command = PtyCommand::new(TOOL).args(args).current_dir(dir);
        for name in UNSET {
            command = command.env_remove(name);
        }
        let child = command.envs(env.iter().copied()).spawn(pts).unwrap();
        let (pty, screen) = (Arc::new(pty), Screen::default());
        let reader = {
            let (pty, screen) = (pty.clone(), screen.clone());
            std::thread::spawn(move || read_all(&pty, &screen))
        };
        Self { child, pty, screen, reader }
    }

    /// Waits until `text` was shown.
    pub(crate) fn wait_for(&self, text: &str) {
        let (shown, changed) = &*self.screen;
        let mut shown = shown.lock().unwrap();
        let until = Instant::now() + PATIENCE;
        while !shown.windows(text.len()).any(|part| part == text.as_bytes()) {
            let left = until.saturating_duration_since(Instant::now());
            let seen = String::from_utf8_lossy(&shown).into_owned();
            assert!(!left.is_zero(), "`{text}` was not shown: {seen:?}");
            shown = changed.wait_timeout(shown, left).unwrap().0;
        }
    }

    pub(crate) fn types(&self, text: &str) {
        (&*self.pty).write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What was shown until it ended, with the terminal's line ends as they are in a file.
    pub(crate) fn end(mut self) -> Ran {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                self.child.kill().unwrap();
                panic!(
                    "it does not end: {:?}",
                    String::from_utf8_lossy(&self.screen.0.lock().unwrap())
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.reader.join().unwrap();
        let out = String::from_utf8(self.screen.0.lock().unwrap().clone()).unwrap();
        Ran { status, out: out.replace("\r\n", "\n"), err: String::new() }
    }
}

/// Reads until the other side is closed, which Linux tells by an error.
fn read_all(mut pty: &Pty, screen: &Screen) {
    let mut chunk = vec![0; 1 << 16];
    while let Ok(read @ 1..) = pty.read(&mut chunk) {
        screen.0.lock().unwrap().extend_from_slice(&chunk[..read]);
        screen.1.notify_all();
    }
}
