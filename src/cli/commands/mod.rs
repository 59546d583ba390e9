//! One verb a file.

use std::time::Duration;

use super::args::{Format, Verb};
use super::console::Console;
use super::exit::Outcome;
use super::note::Noted;
use super::open::{self, Location};
use crate::error::Result;
use crate::expiry::Timestamp;
use crate::store::{Note, RedbStoreBuilder, SessionStore};

pub(super) mod check;
mod cookie;
pub(super) mod expire;
pub(super) mod export;
pub(super) mod import;
pub(super) mod init;
pub(super) mod inspect;
pub(super) mod key;
pub(super) mod list;
pub(super) mod log;
pub(super) mod purge;
mod secret;
pub(super) mod stats;

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
}

impl FileContext<'_, '_> {
    fn builder(&self) -> RedbStoreBuilder {
        open::builder(self.location, self.wait)
    }

    /// What became of a call on the file, for a person who may have named another one.
    fn on_file<T>(&self, result: Result<T>) -> Outcome<T> {
        result.map_err(|error| self.location.explain(error, &self.console.program))
    }
}

impl<'a> Context<'a, '_> {
    /// The store, counting what is changed through it in its log. `matched`: how many sessions
    /// were selected, where that was counted.
    fn noted(&self, matched: Option<u64>) -> Noted<'a> {
        Noted::new(self.store, self.note.as_ref(), matched)
    }
}

/// Carries out a command on the file as a whole, if `verb` is one.
pub(super) fn on_file(verb: &Verb, context: FileContext<'_, '_>) -> Option<Outcome> {
    Some(match verb {
        Verb::Check(args) => check::run(args, context),
        _ => return None,
    })
}
