//! Which processes have a file open, as far as this one may know.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Most processes that are named.
const MOST: usize = 5;

/// `process 4242 (counter)` for each other process that has the file at `path` open. Of processes
/// of other users nothing is known, unless this one is root's.
pub(crate) fn of(path: &Path) -> Vec<String> {
    let Ok(wanted) = fs::metadata(path) else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let others = numbers.filter(|number: &u32| *number != own);
    others.filter(|number| has_open(*number, &wanted)).take(MOST).map(name).collect()
}

fn has_open(process: u32, wanted: &fs::Metadata) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|file| {
        let meta = fs::metadata(file.path());
        meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()))
    })
}

fn name(process: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    format!("process {process} ({})", name.trim_end())
}
