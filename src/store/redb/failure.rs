//! redb's errors in this crate's words.

use std::io;

use crate::error::{Error, Kind};

/// A failure before a commit was begun: nothing was changed.
pub(super) fn before_commit(source: impl Into<redb::Error>) -> Error {
    let source = source.into();
    let (kind, message) = match &source {
        redb::Error::Corrupted(_) => (Kind::Corrupt, "the session file is damaged"),
        // Each is made with the file, so that its name or its type was damaged.
        redb::Error::TableDoesNotExist(_)
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. } => {
            (Kind::Corrupt, "the session file is damaged: a table of it is not there")
        }
        redb::Error::Io(error) if is_full(error) => (Kind::Full, "the disk is full"),
        redb::Error::Io(error) if is_of_damage(error) => {
            (Kind::Corrupt, "the session file is damaged or truncated")
        }
        redb::Error::Io(_) => (Kind::Unavailable, "the session file cannot be read or written"),
        redb::Error::WouldBlock => (Kind::InUse, "another process is writing to the session file"),
        _ => (Kind::Unavailable, "the session file failed"),
    };
    Error::new(kind, message).with_source(source)
}

/// A failure of the commit itself: it may have landed all the same.
pub(super) fn in_commit(source: impl Into<redb::Error>) -> Error {
    Error::unknown_outcome("the session file failed during a commit").with_source(source.into())
}

/// A redb panic, met while reading broken pages.
pub(super) fn panicked() -> Error {
    Error::new(Kind::Corrupt, "the session file is damaged: a page cannot be read")
}

/// Whether the error means that the handle is of no more use: redb latches nearly any I/O error.
pub(super) fn needs_reopening(error: &Error) -> bool {
    let own = matches!(cause(error), Some(redb::Error::Io(_) | redb::Error::LockPoisoned(_)));
    own || is_collateral(error)
}

/// Whether something else failed on the handle, so that it refuses this too.
pub(super) fn is_collateral(error: &Error) -> bool {
    matches!(cause(error), Some(redb::Error::PreviousIo | redb::Error::DatabaseClosed))
}

/// Whether the file or its disk failed, and not the wait for it.
pub(super) fn is_of_the_file(error: &Error) -> bool {
    error.is_full() || error.is_corrupt() || cause(error).is_some()
}

fn cause(error: &Error) -> Option<&redb::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the file is not as it says itself: a page that it points to lies beyond its end.
fn is_of_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}
