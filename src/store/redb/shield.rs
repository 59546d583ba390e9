//! redb panics where a broken page makes no sense to it. Whatever reads pages does so in here.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::failure;
use crate::error::Result;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Whether a panic of this thread is going to be caught, and told as an error.
#[cfg(feature = "cli")]
pub(crate) fn is_up() -> bool {
    DEPTH.get() > 0
}

/// Runs `call`; a panic is the error that the file is damaged.
///
/// What it worked on is then of no more use than to be dropped or reopened.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Result<T> {
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    DEPTH.set(DEPTH.get() - 1);
    outcome.map_err(|_| failure::panicked())
}

/// The same of what may fail by itself.
pub(super) fn shielded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(read)?
}
