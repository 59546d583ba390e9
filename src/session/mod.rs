//! The handle of one request's session.
//!
//! A [`Session`] knows nothing until it is asked: the cookie is looked at, verified and its record
//! loaded by the first method that needs it. `insert` needs nothing: a request that does nothing
//! else with its session is one commit, which finds it by itself. Changes are kept in the handle
//! and committed in one step before the response head leaves, or at once by
//! [`save`](Session::save); only [`update`](Session::update) and [`destroy`](Session::destroy) go
//! to the store by themselves.
//!
//! # What is committed when
//!
//! | | success, 3xx, 4xx | 5xx | panic, hang-up |
//! | --- | --- | --- | --- |
//! | `insert`, `remove`, `clear`, `set_label`, `remember` | committed | dropped | dropped |
//! | `renew`, `login`, and with them the changes above | committed | committed | dropped |
//! | `update`, `destroy`, and whatever was `save`d | done when it returned | done | done |
//!
//! The changes of a request that also renews or signs in belong to that one step, and go the way
//! it goes.
//!
//! # When the session ends meanwhile
//!
//! A commit never brings a session back. If it ended after it was loaded, `save`, `update` and
//! `renew` are `is_gone()`; if it was renewed by a request running beside this one, or had been
//! destroyed so when it was loaded, they are `is_superseded()`. Changes that nobody saved
//! explicitly are dropped without an error. In neither case is a cookie set, which could overwrite
//! the one the other request has set. Only [`login`](Session::login) starts a fresh session there.
//!
//! A request that inserts before it has loaded anything finds out later. It is `is_gone()` if the
//! session was ended since the first `insert`, and also if nothing is left of the session and that
//! `insert` is more than a minute ago: it may have been renewed since. One that has only expired
//! is taken as if it had expired before, and the visitor gets a new one.
//!
//! # After the head
//!
//! A handle may live longer than its request, in a WebSocket or a spawned task. It goes on
//! reading and saving an existing session; what would need a cookie is `is_too_late()`. Changes
//! nobody saved by then are lost with the last handle, which is logged as a warning.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

mod carried;
mod commit;
mod counters;
mod ending;
#[cfg(feature = "axum")]
mod finish;
mod lifecycle;
mod load;
mod metadata;
mod shared;
mod state;
mod update;
mod values;

pub(crate) use carried::Carried;
pub use counters::Counters;
#[cfg(feature = "axum")]
pub(crate) use finish::{Closed, Closing, ClosingCookie, Finished};
pub(crate) use shared::{Settings, Shared};
use state::State;

/// Which layer a session belongs to, where an application has several.
///
/// Each realm has its own cookie and its own handle type; a session of one is never found by
/// another. `()` is the realm of an application with one layer.
///
/// A user's name may mean another person in another realm, a visitor who calls themselves `root`
/// here and one of the staff there: [`siblings`](Session::siblings),
/// [`destroy_others`](Session::destroy_others) and a cap keep to their own realm. The store's own
/// methods and the tool know a user by name, in every realm, unless a filter names one.
///
/// ```
/// use fastsession::{Realm, Session};
///
/// struct Admin;
///
/// impl Realm for Admin {
///     const NAME: &'static str = "admin";
/// }
///
/// async fn dashboard(visitor: Session, admin: Session<Admin>) { /* … */ }
/// ```
pub trait Realm: Send + Sync + 'static {
    /// Stored with each session: at most 64 bytes, not empty, and never to be changed.
    const NAME: &'static str;
}

/// Stored as none.
impl Realm for () {
    const NAME: &'static str = "";
}

/// The session of one request. Cheap to clone; clones are the same session.
///
/// An axum extractor; see the [module](self) for when changes are committed.
///
/// ```
/// use fastsession::Session;
///
/// async fn add_to_cart(session: Session, item: String) -> fastsession::Result<String> {
///     let mut cart: Vec<String> = session.get_or_default("cart").await?;
///     cart.push(item);
///     session.insert("cart", &cart).await?;
///     Ok(format!("{} items", cart.len()))
/// }
/// ```
pub struct Session<R: Realm = ()> {
    inner: Arc<Inner>,
    realm: PhantomData<fn() -> R>,
}

/// What the clones of a handle share.
pub(crate) struct Inner {
    shared: Arc<Shared>,
    known: Mutex<Known>,
    /// Held by whoever commits. Taken before any lock of `update`'s.
    turn: tokio::sync::Mutex<()>,
}

/// What a handle starts from, and what it has come to.
#[derive(Default)]
struct Known {
    carried: Carried,
    /// No token is sent any more: see [`Known::let_go`].
    is_answered: bool,
    /// Made when somebody asks: a request that never does should not pay for it.
    state: Option<Box<State>>,
}

/// The state of a handle, locked.
type Held<'a> = MappedMutexGuard<'a, State>;

impl Known {
    fn state(&mut self) -> &mut State {
        self.state.get_or_insert_default()
    }
}

impl Inner {
    fn new(shared: Arc<Shared>, known: Known) -> Self {
        Self { shared, known: Mutex::new(known), turn: tokio::sync::Mutex::const_new(()) }
    }

    #[cfg(feature = "axum")]
    pub(crate) fn carrying(shared: Arc<Shared>, carried: Carried) -> Self {
        Self::new(shared, Known { carried, ..Known::default() })
    }

    fn state(&self) -> Held<'_> {
        MutexGuard::map(self.known.lock(), Known::state)
    }

    #[cfg(feature = "axum")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl<R: Realm> Session<R> {
    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self { inner, realm: PhantomData }
    }

    #[cfg(feature = "axum")]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl<R: Realm> Clone for Session<R> {
    fn clone(&self) -> Self {
        Self::from_inner(Arc::clone(&self.inner))
    }
}

/// Shows the ID, never the data.
impl<R: Realm> fmt::Debug for Session<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Session");
        match self.inner.known.try_lock() {
            Some(known) => {
                let state = known.state.as_deref();
                let live = state.and_then(|state| state.live.as_ref());
                out.field("id", &live.map(|live| live.id));
                out.field("origin", &state.and_then(|state| state.origin));
            }
            None => {
                out.field("id", &"(busy)");
            }
        }
        out.finish_non_exhaustive()
    }
}

/// How long an unwinding thread waits for others, who never hold the state for long; without end
/// it must not, since it may hold it itself.
const UNWIND_PATIENCE: Duration = Duration::from_millis(100);

/// Notices that the handler panics, which a layer within may turn into an ordinary 500.
impl<R: Realm> Drop for Session<R> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(mut known) = self.inner.known.try_lock_for(UNWIND_PATIENCE)
        {
            known.state().panicked = true;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(state) = &self.known.get_mut().state
            && state.head_sent
            && !state.draft.is_empty()
            && let Some(live) = &state.live
        {
            tracing::warn!(id = %live.id, "session changes lost: never saved after the response");
        }
    }
}
