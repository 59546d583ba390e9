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
//! Counted in instructions by `benches`, over the same request through a bare `Router` with the same
//! routes; the store is a `MemoryStore`. `benches/README.md` has the times, and beside them those of
//! two layers written by hand: one does what any must and nothing else, the other keeps what a
//! session promises, too.
//!
//! **Ignoring the session: 3,000.** 2,200 are what axum itself asks for any layer with an
//! extractor: a cloned and boxed route, one more boxed future, the fourth extension, for which the
//! map of extensions grows. 800 are ours: the handle's one allocation, 120 bytes, and what is put
//! into it and dropped again, a reference to the `Cookie` header, the response's way out. A handle
//! has to be allocated before it is known whether anybody will want it, since the extensions
//! outlive every borrow of the request's headers; what only a session that is asked for has to
//! remember is allocated when it is.
//!
//! **Reading: 6,400, and three compressions of SHA-256**, some 35 ns each where the processor has
//! instructions for them. Two are the cookie's MAC: all that it covers before the token is hashed
//! once for each key (`keyring`), which leaves one block, and HMAC's outer hash. One is the session
//! ID. Neither can be saved: without the MAC a bad cookie would reach the store, and the ID is what
//! keeps tokens out of it. A cache of verified cookies would have to be keyed by a hash of the
//! cookie, which costs the same again. Over a request that ignores its session the larger parts are 600
//! for base64 (the token is read, and the MAC spelt as it should be and compared as text), 200 for
//! finding the cookie in its header, 370 for the store (a read lock, a look into a map, a reference
//! count), 40 for the clock, which is read as of its last tick, some 250 for the state and as much for
//! letting go of it, 250 for `Vary`, 250 for seeing that no activity is due to be recorded, and the value
//! and its text. The token is written where it is hashed and wiped there: what is kept is its ID, and
//! the few requests that have to send it once more read it again. Nothing is awaited or boxed: where the store
//! answers at once, so does the handle, and what it has to wait for otherwise is boxed only then.
//!
//! Instructions tell less than half of it. Some three dozen are atomic, for locks and reference
//! counts of the cookie's header, the key ring, the row, the handle and the layer, at 5 to 7 ns
//! each: as much as all of SHA-256. A row that is not in the processor's cache costs as much again.
//!
//! **Writing: 750 more, if nothing was read.** The value is encoded. One as long as the value before
//! is written into the row itself while its shard is locked, and with it the instant and the count
//! of commits. If the length is another, or somebody has the row, as a request that read it does, a
//! changed copy takes its place, at some 450 more. The clock is read once more: the time of the
//! first change tells whether an end came before it. A request that only inserts loads nothing: the
//! commit finds its session, and compares the realm, by itself. It is asked for without a future if
//! nobody else has a handle of the request; else it takes its turn, which costs one boxed future.
//!
//! **A new session: 10,400 and three compressions.** There is no cookie to verify, but one to make:
//! a token out of those the thread has drawn ahead (`random`), the MAC and the ID, a row and its
//! entry in the index, the text of `Set-Cookie`. Drawing ahead costs a look at the process's number,
//! 100 ns for a system call that does nothing else: it is what makes a fork harmless, and nothing
//! cheaper tells of one without `unsafe`.
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
