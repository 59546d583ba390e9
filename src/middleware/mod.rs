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
//! Counted in instructions by `benches`, over the same request through a bare `Router`; the store
//! is a `MemoryStore`. `benches/README.md` has the times.
//!
//! **Ignoring the session: 3,760.** 2,200 are what axum itself asks for any layer with an
//! extractor: a cloned and boxed route, one more boxed future, the fourth extension, for which the
//! map of extensions grows. 1,560 are ours: the handle's one allocation and what is put into it
//! and dropped again (some 700), finding and counting a reference to the `Cookie` header (250),
//! the response's way out (300), and copies of the request between services. A handle has to be
//! allocated before it is known whether anybody will want it, since the extensions outlive every
//! borrow of the request's headers.
//!
//! **Reading: 8,400, and three compressions of SHA-256**, some 35 ns each where the processor has
//! instructions for them. Two are the cookie's MAC: all that it covers before the token is hashed
//! once for each key (`keyring`), which leaves one block, and HMAC's outer hash. One is the session
//! ID. Neither can be saved: without the MAC a bad cookie would reach the store, and the ID is what
//! keeps tokens out of it. A cache of verified cookies would have to be keyed by a hash of the
//! cookie, which costs the same again. Over a request that ignores its session it is: 1,000 for
//! base64, 350 for the cookie's form and key, 310 for finding it in its header, 330 for the store
//! (a read lock, a look into a map, a reference count), 190 for the clock and the timeouts, 290 for
//! the value, 600 for `Vary` and for seeing that no activity is due to be recorded. Nothing is
//! awaited, boxed or copied: where the store answers at once, so does the handle.
//!
//! **Writing: 3,500 more.** The value is looked at and encoded, the record packed anew in one
//! allocation, the row replaced under its shard's lock. The commit is asked for without a future
//! if nobody else has a handle of the request; else it takes its turn, which costs one boxed
//! future.
//!
//! **A new session: no cookie to verify, but one to make**: a token out of those the thread has
//! drawn ahead (`random`), the same three compressions, a row and its entry in the index, the text
//! of `Set-Cookie`. Drawing ahead costs a look at the process's number, a system call as well but
//! a short one: it is what makes a fork harmless.
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
