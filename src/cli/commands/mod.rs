//! One verb a file.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::args::{Format, Reason, Verb};
use super::console::Console;
use super::exit::{DONE, FAILED, Failure, Outcome};
use super::note::{self, Noted};
use super::open::{self, Location};
use super::progress::{Unit, Work};
use crate::error::Result;
use crate::expiry::Timestamp;
use crate::store::{Note, Progress, RedbStoreBuilder, SessionStore};

mod backup;
mod check;
mod compact;
mod cookie;
pub(super) mod expire;
pub(super) mod export;
pub(super) mod import;
pub(super) mod init;
pub(super) mod inspect;
pub(super) mod key;
pub(super) mod list;
pub(super) mod log;
pub(super) mod manual;
mod migrate;
pub(super) mod purge;
mod restore;
mod secret;
pub(super) mod stats;

/// What an interrupted call on the whole file leaves behind.
const UNCHANGED: &str = "the file is as it was";
/// How often it is looked how far a call on the whole file is.
const LOOK: Duration = Duration::from_millis(50);

/// What every command works with.
pub(super) struct Context<'a, 'b> {
    pub(super) store: &'a dyn SessionStore,
    pub(super) console: &'a mut Console<'b>,
    pub(super) format: Format,
    /// What the log is told of a command that changes something.
    pub(super) note: Option<Note>,
}

/// What a command on the file as a whole works with.
pub(super) struct FileContext<'a, 'b> {
    pub(super) location: &'a Location,
    pub(super) wait: Duration,
    pub(super) console: &'a mut Console<'b>,
    pub(super) format: Format,
    pub(super) now: Timestamp,
    /// As it is typed.
    pub(super) verb: &'static str,
    /// Another file that the command is about; a message that names it says enough.
    pub(super) other: Option<&'a Path>,
}

impl FileContext<'_, '_> {
    fn builder(&self) -> RedbStoreBuilder {
        open::builder(self.location, self.wait)
    }

    /// Carries out a call on the whole file, on a thread of its own, and shows how far it is; `kept`
    /// says what is as it was if it is interrupted.
    fn carry_out<T: Send>(
        &mut self,
        kept: &str,
        call: impl FnOnce(&RedbStoreBuilder) -> Result<T> + Send,
    ) -> Outcome<T> {
        let mut work = Work::begin(self.console, "waiting", Unit::Rows);
        let progress = Progress::default();
        let builder = self.builder().progress(&progress);
        let (sender, receiver) = mpsc::sync_channel(1);
        let result = std::thread::scope(|scope| {
            scope.spawn(move || sender.send(call(&builder)));
            loop {
                match receiver.recv_timeout(LOOK) {
                    Ok(result) => break Ok(result),
                    // It panicked; the scope does, too.
                    Err(RecvTimeoutError::Disconnected) => break Err(()),
                    Err(RecvTimeoutError::Timeout) => {}
                }
                if work.follow(self.console, &progress).is_break() {
                    progress.stop();
                }
            }
        });
        match result {
            // It may have been done before it was told.
            Ok(Err(_)) if progress.is_stopped() => Err(work.cancelled(kept)),
            Ok(result) => self.on_file(result),
            Err(()) => Err(Failure::new(FAILED, "the call on the file was given up")),
        }
    }

    /// What became of a call on the file, for a person who may have named another one.
    fn on_file<T>(&self, result: Result<T>) -> Outcome<T> {
        result.map_err(|error| {
            let other = self.other.map(|path| path.display().to_string());
            if other.is_some_and(|other| error.to_string().contains(&other)) {
                return Failure::from(error);
            }
            self.location.explain(error, &self.console.program)
        })
    }

    fn note(&self, reason: &Reason) -> Note {
        let reason = reason.text.clone().unwrap_or_default();
        Note { reason, ..note::by_this_process(self.verb, self.now) }
    }
}

impl<'a> Context<'a, '_> {
    /// The store, counting what is changed through it in its log. `matched`: how many sessions
    /// were selected, where that was counted.
    fn noted(&self, matched: Option<u64>) -> Noted<'a> {
        Noted::new(self.store, self.note.as_ref(), matched)
    }
}

/// Carries out a command on the file as a whole; see [`Verb::on_file`].
pub(super) fn on_file(verb: &Verb, context: &mut FileContext<'_, '_>) -> Outcome {
    if context.location.url().is_some() {
        return of_a_server();
    }
    match verb {
        Verb::Check(args) => check::run(args, context),
        Verb::Backup(args) => backup::run(args, context),
        Verb::Restore(args) => restore::run(args, context),
        Verb::Compact(args) => compact::run(args, context),
        Verb::Migrate(args) => migrate::run(args, context),
        _ => Ok(DONE),
    }
}

/// Why such a command is not for a server.
fn of_a_server() -> Outcome {
    Err(Failure::usage("this is about a session file, and the database is a server's")
        .because("a server keeps its own storage whole, and has its own tools for it"))
}
