//! The tower layer that gives each request its session.
//!
//! For each request:
//!
//! 1. Unless a [`skip_when`](SessionLayer::skip_when) says otherwise, a [`Session`] that knows
//!    nothing but the `Cookie` headers is put into the request's extensions. That is all a request
//!    costs that never asks for it.
//! 2. When the response comes back, what the handler left pending is committed. If that fails, the
//!    response is replaced by the error's, and no cookie is sent.
//! 3. Then, and only then, the headers are added: `Set-Cookie` if the session is new, renewed,
//!    remembered, signed anew or destroyed, and with it `Cache-Control: no-store` unless the
//!    handler set one; `Vary: Cookie` whenever the session was asked for.
//!
//! The cookie of a client whose session is unknown, expired or badly signed is left alone until
//! there is a new one to replace it: nothing but [`Session::destroy`] deletes cookies.
//!
//! With [`with_header`](SessionLayer::with_header) the token is in a header of that name, in both
//! directions, where otherwise it is in `Cookie` and `Set-Cookie`; a deletion is an empty value.
//!
//! The application's own cookies are never touched. Forwarded headers are never read.
//!
//! # What a request costs
//!
//! Of what a request costs that ignores its session, three fifths are what axum itself asks for a
//! layer and an extractor (a cloned and boxed route, one more boxed future, the fourth extension,
//! for which the map of extensions grows). The rest is our own: the handle's allocation, reference
//! counts of session, settings and cookie, and the copies of the request between services. A read
//! adds three blocks of SHA-256 for the MAC and one for the session ID, with their states some 220
//! ns on a processor with SHA instructions, 40 ns of base64, one look at the clock and two locks
//! that nobody else holds. A new session adds a system call for its
//! 34 random bytes, some 380 ns: random bytes kept for later would be handed out twice after a
//! `fork`. `benches/README.md` has the figures.
//!
//! [`Session`]: crate::Session
//! [`Session::destroy`]: crate::Session::destroy

mod extract;
mod future;
mod headers;
mod layer;
mod respond;
mod service;

pub use future::ResponseFuture;
pub use layer::SessionLayer;
pub use service::SessionService;
