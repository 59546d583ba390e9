//! One opaque [`Error`] with predicates.
//!
//! Callers of a session decide on *what happened* ("is the session gone?", "is the store down?"),
//! hardly ever on which of five crates said so. An enum would freeze the list of causes into the
//! public API and leak the engines' own error types; a struct with `is_*()` predicates lets a
//! cause be added, split or wrapped without breaking anybody. The chain of causes is kept and is
//! what [`std::error::Error::source`] returns.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong, told apart by predicates.
///
/// Cheap to clone, so that many requests waiting for one commit can each be given its error.
/// Neither `Display` nor `Debug` ever shows a token, a key or a stored value.
///
/// ```
/// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
/// match session.save().await {
///     Err(error) if error.is_gone() => { /* logged out meanwhile: nothing to save */ }
///     other => other?,
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<Source>,
}

/// What happened. Internal, so that it can grow; the public face is the predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Conflict,
    Corrupt,
    Decode,
    Encode,
    Forbidden,
    Full,
    Gone,
    InUse,
    Invalid,
    KeysHeldByApplication,
    NoLayer,
    NotFound,
    Superseded,
    TooLarge,
    TooLate,
    TooManySessions,
    Unavailable,
    Unknown,
    Version,
}

macro_rules! predicates {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> bool {
                    self.0.kind == Kind::$kind
                }
            )*
        }
    };
}

predicates! {
    /// An `update` kept losing against other writers of the same key until its deadline.
    is_conflict => Conflict;
    /// What is stored cannot be what was written: a checksum or the structure does not match.
    is_corrupt => Corrupt;
    /// A stored value has another shape than the type asked for. The value is still there.
    is_decode => Decode;
    /// A value cannot be stored so that it would come back the same.
    is_encode => Encode;
    /// The operating system, or the owner and mode of a file, forbid it.
    is_forbidden => Forbidden;
    /// The store's own bound (file size, memory) or the disk's is reached.
    is_full => Full;
    /// The session ended (logout, expiry, purge) before this change could be committed.
    is_gone => Gone;
    /// Another process holds the file so that it cannot be opened or locked.
    is_in_use => InUse;
    /// An argument or option contradicts itself or another, or a file is of another format.
    is_invalid => Invalid;
    /// The application brought its own key ring, so that the store's is not to be used.
    is_keys_held_by_application => KeysHeldByApplication;
    /// The handler ran without a `SessionLayer` around it.
    is_no_layer => NoLayer;
    /// What was named (a file, a session, a key) does not exist.
    is_not_found => NotFound;
    /// The session was renewed, or destroyed a moment ago, by a request running beside this one.
    is_superseded => Superseded;
    /// A key, a value, a session or a field is larger than its bound.
    is_too_large => TooLarge;
    /// The response head has left, so that a cookie can no longer be sent.
    is_too_late => TooLate;
    /// The user has as many sessions as the configured cap allows.
    is_too_many_sessions => TooManySessions;
    /// The store did not answer in time, is being reopened, or was closed. Nothing was changed.
    is_unavailable => Unavailable;
    /// The store failed half-way: the change may or may not have been made.
    is_unknown_outcome => Unknown;
    /// The file was written by a version of this crate that this one cannot follow.
    is_version_mismatch => Version;
}

impl Error {
    /// True if the store, not the caller, is why this failed: answered with 503 by default.
    pub fn is_store_failure(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::Corrupt
                | Kind::Forbidden
                | Kind::Full
                | Kind::InUse
                | Kind::Unavailable
                | Kind::Unknown
                | Kind::Version
        )
    }

    /// The store did not do it, and says so: a custom store's way to report a failure that left
    /// everything as it was. The request is answered with 503.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// The store cannot say whether it was done: a custom store's way to report, for example, a
    /// connection that broke while a commit was on its way.
    pub fn unknown_outcome(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Unknown, message)
    }

    /// The same error with the cause it came from.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        #[cfg(fastsession_leaks)]
        crate::leaks::printed(format_args!("{self:?}"));
        self
    }

    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        let error = Self(Box::new(Inner { kind, message: message.into(), source: None }));
        #[cfg(fastsession_leaks)]
        crate::leaks::printed(format_args!("{error}"));
        error
    }

    #[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "what responses are made of"))]
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
