//! Where a request's session came from.

use std::fmt;

use crate::record::Absence;

/// Whether the request brought a session, and if not, why.
///
/// Clients cannot tell these apart: whatever is wrong with a cookie, they get a fresh anonymous
/// session. It is for the application ("your session has expired") and for the operator.
///
/// ```
/// # async fn demo(session: fastsession::Session) -> fastsession::Result<&'static str> {
/// use fastsession::Origin;
/// Ok(match session.origin().await? {
///     Origin::Expired => "You were signed out because you were away for long.",
///     _ => "Please sign in.",
/// })
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The request carried no session cookie.
    New,
    /// The session was found alive.
    Restored,
    /// The cookie is well signed, but there is no such session.
    NotFound,
    /// The idle or the absolute timeout has passed.
    Expired,
    /// It was ended: logged out, or ended by the application or an operator.
    Ended,
    /// It was renewed a moment ago, by a request running beside this one.
    Superseded,
    /// The cookie was not signed with a key of the ring.
    BadSignature,
    /// The cookie is not in the form of a session cookie, or there are too many.
    Malformed,
    /// The stored record cannot be read. It is kept for `fastsession check`.
    Corrupt,
}

impl Origin {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Corrupt as usize + 1;

    /// The word used in logs and counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Restored => "restored",
            Self::NotFound => "not_found",
            Self::Expired => "expired",
            Self::Ended => "ended",
            Self::Superseded => "superseded",
            Self::BadSignature => "bad_signature",
            Self::Malformed => "malformed",
            Self::Corrupt => "corrupt",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Absence> for Origin {
    fn from(absence: Absence) -> Self {
        match absence {
            Absence::NotFound => Self::NotFound,
            Absence::Expired => Self::Expired,
            Absence::Ended { .. } => Self::Ended,
            Absence::Superseded { .. } => Self::Superseded,
            Absence::Corrupt => Self::Corrupt,
        }
    }
}
