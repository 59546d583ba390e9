//! `kill -9` of the tool at random moments of whatever changes a file.
//!
//! `FASTSESSION_KILLS` says how often each command is killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fixture::{Fixture, rounds, tool};
use crate::rebuild::{filled, sound};

const SESSIONS: usize = 1500;

/// A command, and what has to be so whenever it was killed.
struct Victim {
    args: &'static [&'static str],
    holds: fn(&Desk),
}

const VICTIMS: [Victim; 8] = [
    Victim { args: &["purge", "--reason", "killed"], holds: the_live_are_there },
    Victim { args: &["import", "all.jsonl"], holds: an_import_goes_on },
    Victim { args: &["key", "rotate", "--retire-after", "0s", "--yes"], holds: all_are_there },
    Victim { args: &["compact"], holds: all_are_there },
    Victim { args: &["expire", "--anonymous", "--yes"], holds: all_are_there },
    Victim { args: &["backup", "copy.redb"], holds: a_copy_is_whole },
    Victim { args: &["restore", "sessions.backup", "--yes"], holds: all_are_there },
    Victim { args: &["export", "-o", "out.jsonl"], holds: all_are_there },
];

/// A folder with a file of which half is over, a backup, and an export of it.
struct Desk {
    dir: TempDir,
    all: BTreeSet<String>,
    live: BTreeSet<String>,
}

impl Desk {
    async fn new() -> Self {
        let fixture = Fixture::new();
        filled(&fixture, SESSIONS).await;
        tool(&fixture.path(), &["expire", "--user", "alice", "--yes"]).with_code(0);
        let (all, live) = (ids(&fixture.path(), "all"), ids(&fixture.path(), "live"));
        let desk = Self { dir: tempfile::tempdir().unwrap(), all, live };
        fs::copy(fixture.path(), desk.path("base")).unwrap();
        fs::copy(fixture.path(), desk.path("sessions.backup")).unwrap();
        let export = desk.path("all.jsonl");
        tool(&fixture.path(), &["export", "-o", export.to_str().unwrap()]).with_code(0);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("sessions.redb")
    }

    /// The file as it was, or an empty one to import into.
    fn reset(&self, args: &[&str]) {
        for left in ["copy.redb", "out.jsonl", "sessions.redb"] {
            let _ = fs::remove_file(self.path(left));
        }
        if args[0] == "import" {
            tool(&self.file(), &["init"]).with_code(0);
        } else {
            fs::copy(self.path("base"), self.file()).unwrap();
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fastsession"));
        command.args(["--db", "sessions.redb"]).args(args).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

fn ids(file: &Path, state: &str) -> BTreeSet<String> {
    let out = tool(file, &["list", "--state", state, "--format", "ids"]).with_code(0).out;
    out.lines().map(Into::into).collect()
}

fn all_are_there(desk: &Desk) {
    assert_eq!(ids(&desk.file(), "all"), desk.all);
}

fn the_live_are_there(desk: &Desk) {
    assert_eq!(ids(&desk.file(), "live"), desk.live);
}

fn an_import_goes_on(desk: &Desk) {
    assert!(ids(&desk.file(), "all").is_subset(&desk.all));
    let export = desk.path("all.jsonl");
    tool(&desk.file(), &["import", export.to_str().unwrap()]).with_code(0);
    assert_eq!(ids(&desk.file(), "all"), desk.all);
    assert_eq!(ids(&desk.file(), "live"), desk.live);
    sound(&desk.file());
}

fn a_copy_is_whole(desk: &Desk) {
    all_are_there(desk);
    let copy = desk.path("copy.redb");
    if copy.exists() {
        sound(&copy);
        assert_eq!(ids(&copy, "all"), desk.all);
    }
}

/// Kills the command after a while. False if it was done by then.
fn killed(mut command: Command, after: Duration) -> bool {
    let mut child = command.spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!said.contains("error"), "{said}");
    !child.wait().unwrap().success()
}

/// A part of `whole`, at random and the same in every run.
fn moment(whole: Duration, seed: usize) -> Duration {
    let mut bits = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    whole.mul_f64(f64::from((bits >> 32) as u32) / f64::from(u32::MAX))
}

#[tokio::test]
async fn a_command_killed_at_any_moment_leaves_a_sound_file() {
    let desk = Desk::new().await;
    for Victim { args, holds } in VICTIMS {
        desk.reset(args);
        let since = Instant::now();
        assert!(desk.command(args).status().unwrap().success(), "{args:?}");
        let whole = since.elapsed();
        let kills = rounds("FASTSESSION_KILLS", 5);
        let mut hit = 0;
        for kill in 0..kills {
            desk.reset(args);
            hit += usize::from(killed(desk.command(args), moment(whole, kill)));
            sound(&desk.file());
            holds(&desk);
        }
        println!("{args:?}, of {whole:?}: killed {hit} times of {kills}, sound each time");
    }
}
