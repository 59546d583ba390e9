//! `Session` as an argument of handlers.

use axum_core::extract::FromRequestParts;
use http::request::Parts;

use crate::error::{Error, Kind};
use crate::session::{Realm, Session};

/// Fails (`is_no_layer()`) only without a [`SessionLayer`](crate::SessionLayer) of the same realm,
/// or where it stands aside. Extracting loads nothing.
impl<A: Sync, R: Realm> FromRequestParts<A> for Session<R> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &A) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Error::new(
                Kind::NoLayer,
                "no SessionLayer of this realm is around this route, or it skips this request",
            )
        })
    }
}
