//! A filesystem in memory, of a bounded size: a real disk that is full.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Says loudly that a test did not run. `FASTSESSION_REQUIRE_ALL=1` makes that a failure.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("FASTSESSION_REQUIRE_ALL").is_none(), "not run: {why}");
    println!("SKIPPED: {why}");
}

/// Gone when dropped.
pub struct Mount(TempDir);

impl Mount {
    /// With these options of `mount`, `size=8m` for one.
    pub fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "fastsession-test"])
            .arg(dir.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        skipped("a filesystem cannot be mounted; that needs root");
        None
    }

    pub fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", options]).arg(self.path()).status();
        assert!(done.unwrap().success());
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn sessions(&self) -> PathBuf {
        self.file("sessions.redb")
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Takes all the space that is left, with a file that is returned.
    pub fn fill(&self) -> PathBuf {
        let ballast = self.file("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        ballast
    }

    /// The same, but for so many bytes.
    pub fn fill_but(&self, bytes: u64) {
        let file = fs::File::options().write(true).open(self.fill()).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
