//! What a request carried, before anybody looks at it.

use crate::cookie::{Candidates, candidates};

/// One `Cookie` header as it came in. Cloning is a reference count.
#[cfg(feature = "axum")]
pub(crate) type Raw = http::HeaderValue;
/// Without a layer nothing is carried.
#[cfg(not(feature = "axum"))]
pub(crate) type Raw = Box<[u8]>;

/// All `Cookie` headers. Nearly always there is one at most, which costs no allocation.
#[derive(Clone, Default)]
pub(crate) struct Carried {
    first: Option<Raw>,
    more: Vec<Raw>,
}

impl Carried {
    #[cfg(feature = "axum")]
    pub(crate) fn new(mut headers: impl Iterator<Item = Raw>) -> Self {
        Self { first: headers.next(), more: headers.collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn candidates(&self, name: &str) -> Candidates<'_> {
        candidates(self.first.iter().chain(&self.more).map(AsRef::as_ref), name)
    }
}
