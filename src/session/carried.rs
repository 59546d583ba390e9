//! What a request carried, before anybody looks at it.

use crate::cookie::{Candidates, Sole, candidates, sole};

/// One header as it came in. Cloning is a reference count.
#[cfg(feature = "axum")]
pub(crate) type Raw = http::HeaderValue;
/// Without a layer nothing is carried.
#[cfg(not(feature = "axum"))]
pub(crate) type Raw = Box<[u8]>;

/// All headers that may hold the token. Nearly always there is one at most, which costs no
/// allocation.
#[derive(Clone, Default)]
pub(crate) enum Carried {
    #[default]
    Nothing,
    One(Raw),
    Several(Box<[Raw]>),
}

impl Carried {
    /// These lines of a header.
    #[cfg(feature = "axum")]
    pub(crate) fn lines<'a>(mut lines: impl Iterator<Item = &'a Raw>) -> Self {
        let Some(first) = lines.next() else { return Self::Nothing };
        match lines.next() {
            None => Self::One(first.clone()),
            Some(second) => {
                Self::Several([first, second].into_iter().chain(lines).cloned().collect())
            }
        }
    }

    fn as_slice(&self) -> &[Raw] {
        match self {
            Self::Nothing => &[],
            Self::One(line) => std::slice::from_ref(line),
            Self::Several(lines) => lines,
        }
    }

    /// The values of the cookies named `name`, where the lines are cookies.
    pub(crate) fn cookies(&self, name: &str) -> Candidates<'_> {
        candidates(self.as_slice().iter().map(AsRef::as_ref), name)
    }

    /// The same for a request with one such cookie at most; `Unclear` for others.
    #[inline]
    pub(crate) fn sole_cookie(&self, name: &str) -> Sole<'_> {
        sole(self.as_slice().iter().map(AsRef::as_ref), name)
    }

    /// The value, where a line is the token and nothing else.
    #[cfg(feature = "axum")]
    pub(crate) fn alone(&self) -> Candidates<'_> {
        match self.as_slice() {
            [] => Candidates::alone(&[]),
            [line] => Candidates::alone(line.as_ref()),
            // No client has a reason to send two, and which of them is meant nobody could say.
            _ => Candidates::TooMany,
        }
    }
}
