//! `import`: take in what `export` wrote.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Context;
use crate::cli::args::ImportArgs;
use crate::cli::console::{self, Console};
use crate::cli::exit::{DONE, FAILED, Failure, Outcome};
use crate::cli::input::Input;
use crate::cli::lines::{FORMAT, Head, Line};
use crate::cli::note::Noted;
use crate::cli::progress::{Unit, Work};
use crate::cli::report::{self, Imported, counted};
use crate::cli::time::{When, rough};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::Record;
use crate::store::{DEFAULT_KEEP_ENDED, Import, KeyChange, Tally};

/// Sessions, and bytes of them, taken in by one commit.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// Read at a time.
const BUFFER: usize = 1 << 16;
/// Longest line.
const MAX_LINE: u64 = 64 << 20;
/// IDs named where records differ.
const MAX_NAMED: usize = 10;

/// Where an export is read from.
pub(crate) struct Source {
    /// `None`: standard input.
    file: Option<BufReader<Input<File>>>,
    bytes: Option<u64>,
    path: PathBuf,
}

impl Source {
    /// Opens it: before the database, which an import that cannot be read, or is none, must not make.
    pub(crate) fn open(args: &ImportArgs, console: &mut Console<'_>) -> Outcome<Self> {
        let path = args.file.clone();
        if path.as_os_str() == "-" {
            look_at(console.stdin)?;
            return Ok(Self { file: None, bytes: None, path });
        }
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        let meta = file.metadata().map_err(|error| unreadable(&path, &error))?;
        if meta.is_dir() {
            return Err(unreadable(&path, &io::ErrorKind::IsADirectory.into()));
        }
        // What a pipe holds is not known.
        let bytes = meta.is_file().then_some(meta.len());
        let input = Input::new(file, console.signals.clone());
        let mut file = BufReader::with_capacity(BUFFER, input);
        look_at(&mut file)?;
        Ok(Self { file: Some(file), bytes, path })
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        match self.file {
            Some(_) => unreadable(&self.path, error),
            None => console::unreadable(error),
        }
    }
}

/// Refuses what does not begin as an export does.
fn look_at(source: &mut dyn BufRead) -> Outcome<()> {
    // Why it cannot be read, or that it was interrupted, is told where it is read.
    match source.fill_buf() {
        Ok(head) if !head.starts_with(b"{") => Err(not_an_export(1, NO_HEAD)),
        _ => Ok(()),
    }
}

fn not_an_export(line: u64, problem: &str) -> Failure {
    Failure::new(FAILED, format!("line {line} cannot be imported: {problem}"))
        .next("name a file that `export` wrote")
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(FAILED, format!("{} cannot be read", path.display())).because(error.to_string())
}

pub(crate) async fn run(source: Source, context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let work = Work::begin(context.console, "importing", Unit::Bytes);
    let work = match source.bytes {
        Some(bytes) => work.of(bytes),
        None => work,
    };
    let store = context.noted(None);
    store.noted(Tally::default()).await?;
    let mut import = Importing {
        store,
        work,
        report: Imported::default(),
        batch: Vec::new(),
        batch_bytes: 0,
        conflicts: Vec::new(),
        age: None,
        begun: false,
        ended: false,
    };
    let outcome = import.read_all(source, context.console).await;
    let text = import.text();
    // What was taken in is told though the rest failed.
    if outcome.is_ok() || import.report.read > 0 {
        report::object(context.console, context.format, &import.report, |console| {
            if console.quiet { String::new() } else { text + "\n" }
        })?;
    }
    import.warn(context.console);
    outcome?;
    import.verdict()
}

struct Importing<'a> {
    store: Noted<'a>,
    work: Work,
    report: Imported,
    batch: Vec<(SessionId, Record)>,
    batch_bytes: usize,
    conflicts: Vec<SessionId>,
    /// Of the export, where it says when it was made.
    age: Option<Duration>,
    begun: bool,
    ended: bool,
}

impl Importing<'_> {
    async fn read_all(&mut self, mut from: Source, console: &mut Console<'_>) -> Outcome<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let source: &mut dyn BufRead = match &mut from.file {
                Some(file) => file,
                None => console.stdin,
            };
            let read = source.take(MAX_LINE).read_until(b'\n', &mut line);
            if self.work.goes_on().is_break() {
                self.flush().await?;
                let done = format!("{} lines were read", number - 1);
                return Err(self.work.stopped(&done, GO_ON));
            }
            read.map_err(|error| from.unreadable(&error))?;
            if line.is_empty() {
                break;
            }
            if let Err(problem) = self.take_line(&line).await? {
                self.flush().await?;
                return Err(self.refused(number, &problem));
            }
            // A signal is met before the next line.
            let _ = self.work.advance(console, line.len() as u64);
            if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await?;
        if self.ended {
            return Ok(());
        }
        Err(Failure::new(FAILED, "the export is cut: its last line is missing")
            .because("what it has was imported")
            .next("import the whole export; what is there already is skipped"))
    }

    /// Takes one line in; answers what is wrong with it.
    async fn take_line(&mut self, line: &[u8]) -> Outcome<Result<(), String>> {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Ok(Err("it has no end: the export was cut".into()));
        };
        let line: Line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return Ok(Err(explain(&error))),
        };
        Ok(match line {
            _ if self.ended => Err("it stands after the last line of an export".into()),
            Line::Export(head) if !self.begun => {
                self.begun = true;
                self.age = age(&head, self.store.clock().now());
                if head.format <= FORMAT {
                    Ok(())
                } else {
                    let format = head.format;
                    Err(format!("it has format {format}; this version reads up to {FORMAT}"))
                }
            }
            _ if !self.begun => Err(NO_HEAD.into()),
            Line::Export(_) => Err("an export has one first line".into()),
            Line::Session(session) => match session.to_record() {
                Ok((id, record)) => {
                    self.report.read += 1;
                    self.batch_bytes += record.size_bytes();
                    self.batch.push((id, record));
                    Ok(())
                }
                Err(problem) => Err(problem),
            },
            Line::Keys(keys) => match keys.to_ring() {
                Ok(ring) => {
                    // After the sessions, whose idle timeouts say how long the keys are needed.
                    self.flush().await?;
                    let at = self.store.clock().now();
                    self.store.change_keys(KeyChange::Merge { ring, at }).await?;
                    self.report.keys = true;
                    Ok(())
                }
                Err(problem) => Err(problem),
            },
            Line::End(end) => {
                self.ended = true;
                if end.sessions == self.report.read {
                    Ok(())
                } else {
                    let (all, read) = (end.sessions, self.report.read);
                    Err(format!("the export had {all} sessions, and {read} were read"))
                }
            }
        })
    }

    async fn flush(&mut self) -> Outcome<()> {
        let records = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if records.is_empty() {
            return Ok(());
        }
        let done = self.store.import(Import { records }).await?;
        self.report.imported += done.imported;
        self.report.same += done.same;
        self.report.ended += done.ended;
        self.report.conflicts += done.conflicts.len() as u64;
        let room = MAX_NAMED.saturating_sub(self.conflicts.len());
        self.conflicts.extend(done.conflicts.into_iter().take(room));
        Ok(())
    }

    fn refused(&self, line: u64, problem: &str) -> Failure {
        if !self.begun {
            return not_an_export(line, problem);
        }
        Failure::new(FAILED, format!("line {line} cannot be imported: {problem}"))
            .because(format!("what stands before it is done: {}", self.text()))
            .next(GO_ON)
    }

    fn text(&self) -> String {
        let Imported { imported, same, ended, conflicts, keys, .. } = self.report;
        let mut text = format!("imported {}", counted(imported, "session"));
        if keys {
            text += " and the keys";
        }
        for (count, what) in [
            (same, "there already"),
            (ended, "ended here"),
            (conflicts, "different here and kept as they are"),
        ] {
            if count > 0 {
                text = format!("{text}; {count} {what}");
            }
        }
        text
    }

    /// What ended since may be forgotten here by now.
    fn warn(&self, console: &mut Console<'_>) {
        let Some(age) = self.age.filter(|age| *age > DEFAULT_KEEP_ENDED) else { return };
        if self.report.imported > 0 {
            console.note(&format!(
                "the export was made {} ago: what ended since, and was removed here by now, lives \
                 again; `expire --older-than` ends it",
                rough(age)
            ));
        }
    }

    fn verdict(&self) -> Outcome {
        if self.conflicts.is_empty() {
            return Ok(DONE);
        }
        let mut named: Vec<_> = self.conflicts.iter().map(ToString::to_string).collect();
        if self.report.conflicts > named.len() as u64 {
            named.push("and more".into());
        }
        let what =
            format!("{} differ here and were kept", counted(self.report.conflicts, "session"));
        Err(Failure::new(FAILED, what).because(named.join("\n")))
    }
}

/// How old an export is.
fn age(head: &Head, now: Timestamp) -> Option<Duration> {
    match head.exported_at.parse().ok()? {
        When::At(at) => Some(now.saturating_since(at)),
        When::Ago(_) => None,
    }
}

const NO_HEAD: &str = "an export begins with a line `{\"export\":…}`";
const GO_ON: &str = "repeat the command to go on: what is there already is skipped";

/// What serde says, without its idea of a line number.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("{text}, at column {}", error.column())
}
