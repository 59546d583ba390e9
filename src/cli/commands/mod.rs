//! One verb a file.

use super::args::Format;
use super::console::Console;
use super::note::Noted;
use crate::store::{Note, SessionStore};

mod cookie;
pub(super) mod expire;
pub(super) mod init;
pub(super) mod inspect;
pub(super) mod key;
pub(super) mod list;
pub(super) mod log;
pub(super) mod purge;
pub(super) mod stats;

/// What every command works with.
pub(super) struct Context<'a, 'b> {
    pub(super) store: &'a dyn SessionStore,
    pub(super) console: &'a mut Console<'b>,
    pub(super) format: Format,
    /// What the log is told of a command that changes something.
    pub(super) note: Option<Note>,
}

impl<'a> Context<'a, '_> {
    /// The store, counting what is changed through it in its log. `matched`: how many sessions
    /// were selected, where that was counted.
    fn noted(&self, matched: Option<u64>) -> Noted<'a> {
        Noted::new(self.store, self.note.as_ref(), matched)
    }
}
