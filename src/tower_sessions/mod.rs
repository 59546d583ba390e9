//! Sessions of [tower-sessions](https://docs.rs/tower-sessions) in a store of this crate.
//!
//! For applications that use tower-sessions, or [axum-login](https://docs.rs/axum-login) which
//! stands on it: their handlers stay as they are, and [`Store`] takes the place of their store. The
//! sessions are then in one file, leave by the index of deadlines when they are over, and
//! `fastsession list --realm tower-sessions` shows them, ends them, and ends all of a user's.
//!
//! ```
//! use axum::{Router, routing::get};
//! use fastsession::tower_sessions::Store;
//! use tower_sessions::{Session, SessionManagerLayer};
//!
//! # fn demo() -> fastsession::Result<()> {
//! # let redb = fastsession::MemoryStore::new()?;
//! // let redb = fastsession::RedbStore::open("sessions.redb")?;
//! let app: Router = Router::new()
//!     .route("/", get(async |session: Session| {
//!         session.insert("visits", 1).await.map_err(|error| error.to_string())
//!     }))
//!     .layer(SessionManagerLayer::new(Store::new(redb)));
//! # Ok(()) }
//! ```
//!
//! It implements the trait of tower-sessions-core 0.14, the version of axum-login 0.18.
//!
//! # What is kept
//!
//! - Each key of a session is a value of its own, as if written by [`Session`](crate::Session).
//! - A tower-sessions ID is the secret in its cookie. What is stored is a hash of it: the file gives
//!   away no ID that a cookie could carry.
//! - The record is over at its `expiry_date`, to the millisecond, and when somebody ended it. The
//!   date comes back exactly: what it has beyond the millisecond is kept with the data, as
//!   `tower-sessions.expiry_ns`, a key that the application cannot use.
//! - [`Store::user_from`] says who is signed in, so that `store.expire(Selector::user("7"))` and
//!   `fastsession expire --user 7` end a user's sessions.
//!
//! # Which rules do not hold
//!
//! The interface of tower-sessions says less than that of this crate, and these rules of
//! [`Session`](crate::Session) cannot be kept through it:
//!
//! - **Both of two concurrent changes survive.** A save carries the whole session: the last one
//!   wins, whatever keys it changed. There is no exact `update`.
//! - **Renewal is one step.** `cycle_id` deletes the old session at once and creates the new one
//!   with the response. If the handler fails in between, the visitor has no session.
//! - **Idle and absolute timeouts.** There is one `expiry_date`, which every save may move.
//! - **The cookie is signed**, and its keys rotate. A tower-sessions cookie is its 128-bit ID,
//!   signed with one fixed key if so configured.
//! - **Origins.** Expired, ended and unknown are all "not found"; a store that fails is an error of
//!   the handler, and tower-sessions answers 500.
//! - **The bounds** of cookie and header are those of tower-sessions; those of data, keys, queue
//!   and waiting hold.
//!
//! Logout wins even here: a session that was deleted, expired or ended is never saved back, a late
//! `save` is an error. A new session never takes the place of another one.
//!
//! # Their own tests
//!
//! The tests that tower-sessions 0.14 publishes for its routes, and those of its memory store, are
//! run against a session file, as they are but for the store. They pass, except one: it saves a
//! session that was never created, and expects that to succeed. The program in the documentation
//! of axum-login 0.18 is run the same way.
//!
//! # From tower-sessions to the native interface
//!
#![doc = include_str!("../../docs/tower-sessions.md")]

mod convert;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tower_sessions_core::session::{Id, Record as TowerRecord};
use tower_sessions_core::session_store::{
    Error as TowerError, ExpiredDeletion, Result as Outcomes,
};

use self::convert::{draft_of, id_of, record_of};
use crate::error::Error;
use crate::expiry::{Timeouts, Timestamp};
use crate::record::{EndedBy, Record};
use crate::store::{
    Access, Commit, DEFAULT_MAX_DATA_BYTES, Loaded, Login, Op, Outcome, SessionStore, Sweep,
};
use crate::watch;

/// The realm of these sessions, which keeps them apart from those of a
/// [`SessionLayer`](crate::Session) on the same store.
pub const REALM: &str = "tower-sessions";

/// How often an ID may be taken before the generator is thought broken.
const COLLISIONS: usize = 3;
const SWEEP_STEP: usize = 1000;

/// The data of a tower-sessions session.
pub type Data = HashMap<String, Value>;
type UserFrom = Arc<dyn Fn(&Data) -> Option<String> + Send + Sync>;

/// A store of tower-sessions that keeps its sessions in `S`. Cheap to clone.
///
/// See the [module](self) for what holds through it.
pub struct Store<S> {
    inner: Arc<S>,
    user_from: Option<UserFrom>,
    max_data_bytes: usize,
}

impl<S: SessionStore> Store<S> {
    /// Keeps sessions in `store`, without users.
    pub fn new(store: S) -> Self {
        Self { inner: Arc::new(store), user_from: None, max_data_bytes: DEFAULT_MAX_DATA_BYTES }
    }

    /// The same, with the users of axum-login: [`axum_login_user`].
    pub fn for_axum_login(store: S) -> Self {
        Self::new(store).user_from(axum_login_user)
    }

    /// Says who is signed in with a session, from its data.
    ///
    /// A user belongs to an ID: saving a session with another user than it was created with fails,
    /// because to sign in without `cycle_id` is session fixation. (axum-login cycles the ID by
    /// itself at a login, but not where somebody is signed in already: log out first.) A session
    /// whose data no longer tells a user stays one of its user's.
    ///
    /// ```
    /// # use fastsession::{MemoryStore, tower_sessions::Store};
    /// let store = Store::new(MemoryStore::new()?)
    ///     .user_from(|data| data.get("user")?.as_str().map(Into::into));
    /// # Ok::<(), fastsession::Error>(())
    /// ```
    #[must_use]
    pub fn user_from(
        mut self,
        user: impl Fn(&Data) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.user_from = Some(Arc::new(user));
        self
    }

    /// The most bytes of data a session may have. Default: 64 KiB.
    #[must_use]
    pub fn with_max_data_bytes(mut self, bytes: usize) -> Self {
        self.max_data_bytes = bytes;
        self
    }

    /// The store beneath.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    fn user_of(&self, data: &Data) -> Option<Box<str>> {
        self.user_from.as_ref().and_then(|user| user(data)).map(Into::into)
    }

    async fn commit(&self, id: &Id, at: Timestamp, op: Op) -> Result<Outcome, TowerError> {
        // That of a request, which is activity. Timeouts of a layer change nothing of these sessions,
        // which all have their own.
        let access = Access { timeouts: Some(Timeouts::default()), ..Access::at(at) };
        let id = id_of(id);
        let commit = Commit { id, access, max_data_bytes: self.max_data_bytes, op };
        watch::commit(&*self.inner, commit).await.map_err(tower_error)
    }

    /// The live session of `id`.
    async fn find(&self, id: &Id, at: Timestamp) -> Result<Option<Record>, TowerError> {
        let id = id_of(id);
        let loaded = watch::loading(self.inner.load(&id, &Access::at(at)), &id).await;
        match loaded.map_err(tower_error)? {
            Loaded::Live(record) if record.realm() == Some(REALM) => Ok(Some(record)),
            _ => Ok(None),
        }
    }

    /// Reading is activity, for whoever lists sessions; it moves no deadline.
    fn touch(&self, id: &Id, record: &Record, at: Timestamp) {
        let interval = Timeouts::default().default_touch_interval();
        let touch_interval = interval.min(record.idle_timeout() / 20);
        if at.saturating_since(record.last_seen_at()) >= touch_interval.max(Duration::from_secs(1))
        {
            self.inner.touch(&id_of(id), &Access { touch_interval: interval, ..Access::at(at) });
        }
    }
}

/// Who is signed in with axum-login: the `user_id` under its default key, `axum-login.data`. Text
/// as it is, a number in decimal, anything else as JSON.
///
/// Where the application set a `with_data_key`:
///
/// ```
/// # use fastsession::{MemoryStore, tower_sessions::{Store, user_id}};
/// let store = Store::new(MemoryStore::new()?)
///     .user_from(|data| user_id(data.get("my-own.data")?));
/// # Ok::<(), fastsession::Error>(())
/// ```
pub fn axum_login_user(data: &Data) -> Option<String> {
    user_id(data.get("axum-login.data")?)
}

/// The `user_id` in a value that axum-login wrote.
pub fn user_id(data: &Value) -> Option<String> {
    match data.get("user_id")? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[async_trait]
impl<S: SessionStore> tower_sessions_core::SessionStore for Store<S> {
    /// Never takes the place of a session that there is, or was a moment ago: the record gets
    /// another ID then.
    async fn create(&self, record: &mut TowerRecord) -> Outcomes<()> {
        let at = self.inner.clock().now();
        let draft = draft_of(record, at, at)?;
        let login = self.user_of(&record.data).map(|user| Login { user, cap: None });
        for _ in 0..COLLISIONS {
            let realm = Some(REALM.into());
            let op = Op::Create { realm, draft: draft.clone(), login: login.clone() };
            match self.commit(&record.id, at, op).await? {
                Outcome::Committed(_) => return Ok(()),
                _ => record.id = Id::default(),
            }
        }
        Err(TowerError::Backend("new session IDs keep meeting existing sessions".into()))
    }

    async fn save(&self, record: &TowerRecord) -> Outcomes<()> {
        let at = self.inner.clock().now();
        let Some(current) = self.find(&record.id, at).await? else { return Err(missing()) };
        if let Some(user) = self.user_of(&record.data)
            && current.user() != Some(&user)
        {
            return Err(TowerError::Backend(
                "the session is another user's, or nobody's: call cycle_id before signing in"
                    .into(),
            ));
        }
        let began = current.authenticated_at().unwrap_or(current.created_at());
        let draft = draft_of(record, began, at)?;
        match self.commit(&record.id, at, Op::Merge(draft)).await? {
            Outcome::Committed(_) => Ok(()),
            _ => Err(missing()),
        }
    }

    async fn load(&self, id: &Id) -> Outcomes<Option<TowerRecord>> {
        let at = self.inner.clock().now();
        let Some(record) = self.find(id, at).await? else { return Ok(None) };
        self.touch(id, &record, at);
        record_of(*id, &record).map(Some)
    }

    async fn delete(&self, id: &Id) -> Outcomes<()> {
        let op = Op::End { by: EndedBy::Application, grace: Duration::ZERO };
        self.commit(id, self.inner.clock().now(), op).await.map(drop)
    }
}

/// The store removes what is over by itself; this does some of it now.
#[async_trait]
impl<S: SessionStore> ExpiredDeletion for Store<S> {
    async fn delete_expired(&self) -> Outcomes<()> {
        let at = self.inner.clock().now();
        while self
            .inner
            .sweep(Sweep { at, limit: SWEEP_STEP, purge: false })
            .await
            .map_err(tower_error)?
            .more
        {}
        Ok(())
    }
}

impl<S> Clone for Store<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            user_from: self.user_from.clone(),
            max_data_bytes: self.max_data_bytes,
        }
    }
}

impl<S> fmt::Debug for Store<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("has_users", &self.user_from.is_some())
            .finish_non_exhaustive()
    }
}

fn missing() -> TowerError {
    TowerError::Backend("there is no such session, or it has ended".into())
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn tower_error(error: Error) -> TowerError {
    if error.is_encode() || error.is_too_large() {
        TowerError::Encode(error.to_string())
    } else if error.is_decode() || error.is_corrupt() {
        TowerError::Decode(error.to_string())
    } else {
        TowerError::Backend(error.to_string())
    }
}
