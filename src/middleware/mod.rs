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
//! The application's own cookies are never touched. Forwarded headers are never read.
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
