//! What a request carried, before anybody looks at it.

use crate::cookie::{Candidates, candidates};

/// One header as it came in. Cloning is a reference count.
#[cfg(feature = "axum")]
pub(crate) type Raw = http::HeaderValue;
/// Without a layer nothing is carried.
#[cfg(not(feature = "axum"))]
pub(crate) type Raw = Box<[u8]>;

/// All headers that may hold the token. Nearly always there is one at most, which costs no
/// allocation.
#[derive(Clone, Default)]
pub(crate) struct Carried {
    first: Option<Raw>,
    more: Vec<Raw>,
    /// A header is the token and nothing else, rather than cookies.
    is_bare: bool,
}

impl Carried {
    /// These `Cookie` headers.
    #[cfg(feature = "axum")]
    pub(crate) fn cookies(mut headers: impl Iterator<Item = Raw>) -> Self {
        Self { first: headers.next(), more: headers.collect(), is_bare: false }
    }

    /// The lines of the header that is the token.
    #[cfg(feature = "axum")]
    pub(crate) fn bare(mut headers: impl Iterator<Item = Raw>) -> Self {
        Self { first: headers.next(), more: headers.take(1).collect(), is_bare: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The values that may be the token: of the cookies named `name`, or of the header.
    pub(crate) fn candidates(&self, name: &str) -> Candidates<'_> {
        if !self.is_bare {
            return candidates(self.first.iter().chain(&self.more).map(AsRef::as_ref), name);
        }
        match (&self.first, &*self.more) {
            (Some(value), []) => Candidates::alone(value.as_ref()),
            (None, _) => Candidates::alone(&[]),
            // No client has a reason to send two, and which of them is meant nobody could say.
            (Some(_), _) => Candidates::TooMany,
        }
    }
}
