//! One verb a file.

use super::args::Format;
use super::console::Console;
use crate::store::SessionStore;

mod cookie;
pub(super) mod expire;
pub(super) mod init;
pub(super) mod inspect;
pub(super) mod key;
pub(super) mod list;
pub(super) mod purge;
pub(super) mod stats;

/// What every command works with.
pub(super) struct Context<'a, 'b> {
    pub(super) store: &'a dyn SessionStore,
    pub(super) console: &'a mut Console<'b>,
    pub(super) format: Format,
}
