//! Ready sessions and signed-in requests.

use std::fmt;
use std::sync::Arc;

use crate::cookie::CookieOptions;
use crate::error::{Error, Result};
use crate::expiry::Timeouts;
use crate::id::SessionId;
use crate::keyring::Scope;
use crate::session::{Carried, Inner, Realm, Session, Settings, Shared};
use crate::store::SessionStore;

/// A session as a handler gets it, for tests that call handlers directly: of a visitor who has
/// none yet. Fill it with `insert`, sign in with `login`; `save` makes that durable in the store.
///
/// ```
/// use fastsession::{MemoryStore, Session, testing};
///
/// async fn greet(session: Session) -> fastsession::Result<String> {
///     Ok(format!("Hello {}", session.user().await?.unwrap_or("stranger".into())))
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> fastsession::Result<()> {
/// let session = testing::session(&MemoryStore::new()?);
/// session.login("alice").await?;
/// assert_eq!(greet(session).await?, "Hello alice");
/// # Ok(()) }
/// ```
pub fn session<S: SessionStore + Clone>(store: &S) -> Session {
    open(store, &CookieOptions::default())
}

/// What a browser holds after signing in.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The value of the `Cookie` request header.
    pub cookie: String,
    /// The session it opens.
    pub id: SessionId,
}

/// Without the cookie, which is a secret even in a test's log.
impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Signs `user` in, for requests to a router whose layer has the same store and cookie options.
///
/// For a layer with a realm, `signed_in::<Admin, _>(…)`.
///
/// ```
/// use axum::{Router, body::Body, http::Request, routing::get};
/// use fastsession::{CookieOptions, MemoryStore, Session, SessionLayer, testing};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> fastsession::Result<()> {
/// let store = MemoryStore::new()?;
/// let app: Router = Router::new()
///     .route("/", get(async |session: Session| session.user().await.map(|u| u.unwrap_or_default())))
///     .layer(SessionLayer::new(store.clone()));
///
/// let alice = testing::signed_in::<(), _>(&store, &CookieOptions::default(), "alice").await?;
/// let request = Request::get("/").header("cookie", alice.cookie).body(Body::empty()).unwrap();
/// let response = app.oneshot(request).await.unwrap();
/// assert!(response.status().is_success());
/// # Ok(()) }
/// ```
pub async fn signed_in<R: Realm, S: SessionStore + Clone>(
    store: &S,
    cookie: &CookieOptions,
    user: &str,
) -> Result<SignedIn> {
    let session = open::<R, S>(store, cookie);
    session.login(user).await?;
    session.save().await?;
    let (Some(id), Some(value)) = (session.id().await?, session.inner().own_cookie().await?) else {
        return Err(Error::unavailable("the store keeps no session"));
    };
    Ok(SignedIn { cookie: format!("{}={value}", cookie.name()), id })
}

fn open<R: Realm, S: SessionStore + Clone>(store: &S, cookie: &CookieOptions) -> Session<R> {
    let mut settings = Settings::new(Some(R::NAME).filter(|name| !name.is_empty()));
    settings.scope = Scope::cookie(cookie.name());
    settings.cookie = cookie.clone();
    settings.timeouts = Some(Timeouts::default());
    let shared = Arc::new(Shared::new(settings, Arc::new(store.clone())));
    Session::from_inner(Arc::new(Inner::carrying(shared, Carried::default())))
}
