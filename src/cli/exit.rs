//! How a command ends: exit codes, and failures as a person reads them.

use std::error::Error as _;
use std::io;

use super::report::counted;
use crate::error::Error;

/// Done; also when nothing matched, and when the reader of a pipe went away.
pub const DONE: u8 = 0;
/// It failed, or was declined.
pub const FAILED: u8 = 1;
/// The command line is not one that is understood, or lacks a `--yes`.
pub const USAGE: u8 = 2;
/// No such session or key, or an ID's beginning that several sessions share.
pub const NO_SUCH_SESSION: u8 = 3;
/// Another process holds the database, or gave no lock within `--wait`.
pub const IN_USE: u8 = 4;
/// Something stored cannot be decoded. What can be was still shown.
pub const CORRUPT: u8 = 5;
/// The database was written by a version that this one cannot follow.
pub const VERSION_MISMATCH: u8 = 6;
/// Ctrl-C was pressed. What was done stays done, and the message says how far it came.
pub const INTERRUPTED: u8 = 130;
/// The same by SIGTERM.
pub const TERMINATED: u8 = 143;

/// What a command returns: its exit code, or why it stopped.
pub(crate) type Outcome<T = u8> = Result<T, Failure>;

/// Why a command stopped: what, why, and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Empty where there is nobody left to tell.
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    pub(crate) next: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), why: None, next: None }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(USAGE, what)
    }

    /// The same, telling what was done before it, if anything was.
    pub(crate) fn after(mut self, done: &str, count: u64, noun: &str) -> Self {
        if count > 0 {
            self.what = format!("{} ({done} {} before that)", self.what, counted(count, noun));
        }
        self
    }

    /// Whether it concerns one ID that was given, and not the store or the output.
    pub(crate) fn is_about_an_id(&self) -> bool {
        matches!(self.code, USAGE | NO_SUCH_SESSION)
    }

    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let causes: Vec<_> =
            std::iter::successors(error.source(), |cause| (*cause).source()).collect();
        let why = causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self {
            code: code_of(&error),
            what: error.to_string(),
            why: (!why.is_empty()).then_some(why),
            next: advice(&error).map(Into::into),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Whoever read the output has seen enough.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(DONE, "");
        }
        Self::new(FAILED, "the output cannot be written").because(error.to_string())
    }
}

fn code_of(error: &Error) -> u8 {
    if error.is_in_use() {
        IN_USE
    } else if error.is_corrupt() {
        CORRUPT
    } else if error.is_version_mismatch() {
        VERSION_MISMATCH
    } else {
        FAILED
    }
}

fn advice(error: &Error) -> Option<&'static str> {
    Some(if error.is_in_use() {
        "stop the process that holds it; if it is only busy, allow more time with --wait"
    } else if error.is_version_mismatch() {
        "use the fastsession of the application's own version"
    } else if error.is_forbidden() {
        // Where it is not the system but the file's owner or mode, the message says what to do.
        error.source()?;
        "run this as the user that the application runs as"
    } else if error.is_full() {
        "make room: `purge` removes what is over"
    } else if error.is_keys_held_by_application() {
        "change its keys where the application gets them from"
    } else if error.is_unknown_outcome() {
        "look with `list` whether it was done, and repeat it if not"
    } else if error.is_corrupt() {
        "nothing was changed; keep the file, and put a backup in its place"
    } else if error.is_unavailable() && is_of_the_system(error) {
        "check the path, and the disk it is on"
    } else if error.is_unavailable() {
        "try again, or allow more time with --wait"
    } else {
        return None;
    })
}

fn is_of_the_system(error: &Error) -> bool {
    error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn errors_map_to_documented_exit_codes() {
        let code = |kind| Failure::from(Error::new(kind, "x")).code;
        assert_eq!(code(Kind::InUse), IN_USE);
        assert_eq!(code(Kind::Corrupt), CORRUPT);
        assert_eq!(code(Kind::Version), VERSION_MISMATCH);
        assert_eq!(code(Kind::Unavailable), FAILED);
        assert_eq!(code(Kind::KeysHeldByApplication), FAILED);
    }

    #[test]
    fn a_failure_tells_its_causes() {
        let error = Error::unavailable("the file cannot be read")
            .with_source(io::Error::other("the disk is gone"));
        let failure = Failure::from(error);
        assert_eq!(failure.what, "the file cannot be read");
        assert_eq!(failure.why.as_deref(), Some("the disk is gone"));
        assert!(failure.next.unwrap().contains("disk"));
    }

    #[test]
    fn a_failure_advises_nothing_beside_the_point() {
        let next = |error: Error| Failure::from(error).next.unwrap_or_default();
        let mode = Error::new(Kind::Forbidden, "it is open to every user; `chmod o=` closes it");
        assert_eq!(next(mode.clone()), "");
        let system = mode.with_source(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(next(system).contains("user"));
        assert!(next(Error::unavailable("no answer in time")).contains("--wait"));
    }

    #[test]
    fn a_broken_pipe_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code, DONE);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).code, FAILED);
    }
}
