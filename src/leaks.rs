//! Writes down every secret that this process gets to know, and all that it logs, so that what a
//! run of the tests printed can be searched for what it must not show.
//!
//! Compiled with `--cfg fastsession_leaks` only, as `.ci/leaks` does: nothing of it is in any build
//! that somebody uses. `FASTSESSION_LEAKS` names the folder; without it nothing is written.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

struct Files {
    secrets: Mutex<(HashSet<String>, File)>,
    printed: Mutex<File>,
}

/// A token or a signing key came into being, or came in.
pub(crate) fn secret(bytes: &[u8]) {
    note("secret", bytes);
}

/// Something is to be stored in a session.
pub(crate) fn payload(bytes: &[u8]) {
    note("payload", bytes);
}

/// An error was made, which somebody may print.
pub(crate) fn printed(what: fmt::Arguments<'_>) {
    if let Some(files) = files() {
        files.print(format!("error {what}\n"));
    }
}

fn note(kind: &str, bytes: &[u8]) {
    let Some(files) = files() else { return };
    let mut line = format!("{kind} ");
    bytes.iter().try_for_each(|byte| write!(line, "{byte:02x}")).ok();
    line.push('\n');
    let Ok(mut secrets) = files.secrets.lock() else { return };
    let (known, file) = &mut *secrets;
    if !known.contains(&line) {
        file.write_all(line.as_bytes()).ok();
        known.insert(line);
    }
}

/// From the first secret on, as nothing can be leaked before.
fn files() -> Option<&'static Files> {
    static FILES: OnceLock<Option<Files>> = OnceLock::new();
    let mut is_first = false;
    let files = FILES.get_or_init(|| {
        is_first = true;
        std::env::var_os("FASTSESSION_LEAKS").and_then(|folder| open(folder).ok())
    });
    if is_first && files.is_some() {
        tracing::subscriber::set_global_default(Logged).ok();
    }
    files.as_ref()
}

fn open(folder: OsString) -> io::Result<Files> {
    let folder = Path::new(&folder);
    let process = std::process::id();
    let create = |name: &str| {
        File::options().append(true).create(true).open(folder.join(format!("{name}-{process}")))
    };
    // What others on the machine see of it.
    create("cmdline")?.write_all(&std::fs::read("/proc/self/cmdline")?)?;
    let secrets = Mutex::new((HashSet::new(), create("secrets")?));
    Ok(Files { secrets, printed: Mutex::new(create("printed")?) })
}

impl Files {
    fn print(&self, line: String) {
        if let Ok(mut file) = self.printed.lock() {
            file.write_all(line.as_bytes()).ok();
        }
    }
}

/// Everything at every level, whoever logs it.
struct Logged;

impl Logged {
    fn line(metadata: &Metadata<'_>, visit: impl FnOnce(&mut dyn Visit)) {
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        visit(&mut line);
        line.0.push('\n');
        if let Some(files) = files() {
            files.print(line.0);
        }
    }
}

impl Subscriber for Logged {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        Self::line(span.metadata(), |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        if let Some(files) = files() {
            files.print(line.0);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        Self::line(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).ok();
    }
}
