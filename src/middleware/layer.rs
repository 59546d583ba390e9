//! The layer and its configuration.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum_core::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use tower_layer::Layer;

use super::service::SessionService;
use crate::cookie::CookieOptions;
use crate::error::Error;
use crate::expiry::Timeouts;
use crate::header::HeaderOptions;
use crate::keyring::Scope;
use crate::record::MAX_REALM_BYTES;
use crate::session::{Counters, Realm, Settings, Shared};
use crate::store::{SessionCap, SessionStore};

type Predicate = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
pub(super) type ErrorHook = Arc<dyn Fn(&Error) -> Option<Response> + Send + Sync>;

/// Gives each request of an axum `Router` its [`Session`](crate::Session).
///
/// ```
/// use axum::{Router, routing::get};
/// use fastsession::{CookieOptions, MemoryStore, Session, SessionLayer, Timeouts};
///
/// let store = MemoryStore::new()?;
/// let app: Router = Router::new()
///     .route("/", get(async |session: Session| {
///         session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await.map(|n| n.to_string())
///     }))
///     .layer(
///         SessionLayer::new(store)
///             .with_cookie(CookieOptions::insecure_http())
///             .with_timeouts(Timeouts::AAL2),
///     );
/// # Ok::<(), fastsession::Error>(())
/// ```
///
/// Two layers of different realms go side by side; see [`Realm`]:
///
/// ```
/// # use fastsession::{CookieOptions, MemoryStore, Realm, SessionLayer};
/// # struct Admin;
/// # impl Realm for Admin { const NAME: &'static str = "admin"; }
/// # let store = MemoryStore::new()?;
/// # let app: axum::Router = axum::Router::new();
/// let cookie = CookieOptions::builder().name("__Host-admin").build()?;
/// let app = app
///     .layer(SessionLayer::<_, Admin>::for_realm(store.clone()).with_cookie(cookie))
///     .layer(SessionLayer::new(store));
/// # let _: axum::Router = app;
/// # Ok::<(), fastsession::Error>(())
/// ```
pub struct SessionLayer<S, R: Realm = ()> {
    config: Arc<Config>,
    marker: PhantomData<fn() -> (S, R)>,
}

/// What the services of one layer share.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) shared: Arc<Shared>,
    pub(super) skip: Vec<Predicate>,
    pub(super) touch_when: Option<Predicate>,
    pub(super) on_error: Option<ErrorHook>,
}

impl<S: SessionStore> SessionLayer<S> {
    /// A layer with the defaults: cookie `__Host-sid`, 24 hours idle, 30 days absolute.
    pub fn new(store: S) -> Self {
        Self::for_realm(store)
    }
}

impl<S: SessionStore, R: Realm> SessionLayer<S, R> {
    /// Like [`SessionLayer::new`], for a realm that is named: `SessionLayer::<_, Admin>::for_realm`.
    ///
    /// Not called `new`, because Rust could not tell then which realm `SessionLayer::new` means.
    pub fn for_realm(store: S) -> Self {
        const { assert!(R::NAME.len() <= MAX_REALM_BYTES, "a realm's name has at most 64 bytes") };
        let realm = Some(R::NAME).filter(|name| !name.is_empty());
        let mut settings = Settings::new(realm);
        settings.timeouts = Some(Timeouts::default());
        let config = Config {
            shared: Arc::new(Shared::new(settings, Arc::new(store))),
            skip: Vec::new(),
            touch_when: None,
            on_error: None,
        };
        Self { config: Arc::new(config), marker: PhantomData }
    }

    /// What this layer counts, and clones of it do.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.config.shared.counters)
    }

    /// Changes the settings; layers that were cloned from this one before keep theirs.
    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let config = Arc::make_mut(&mut self.config);
        Arc::make_mut(&mut config.shared).change(change);
        self
    }

    fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// Name and attributes of the cookie.
    #[must_use]
    pub fn with_cookie(self, cookie: CookieOptions) -> Self {
        self.set(|settings| {
            settings.scope = Scope::cookie(cookie.name());
            settings.cookie = cookie;
            settings.header = None;
        })
    }

    /// Takes the token from a header instead of a cookie, and sends it back in a response header
    /// of the same name: for native applications and other clients that keep no cookies.
    ///
    /// Whenever a response has the header, the client keeps its value for the next request, and
    /// forgets it if it is empty (after a logout). No cookie is looked at or set. A value is valid
    /// in one line of this header and nowhere else: one from a cookie, or from a header of another
    /// name, is badly signed here. Responses that depend on it say so in `Vary`.
    ///
    /// Where pages are served, a cookie is safer: scripts cannot read it. A page of another origin
    /// needs `Access-Control-Expose-Headers` to see the header. Of [`with_cookie`](Self::with_cookie) and this, the
    /// later one stands.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use fastsession::{HeaderOptions, MemoryStore, Session, SessionLayer};
    ///
    /// let store = MemoryStore::new()?;
    /// let user = async |session: Session| session.user().await.map(Option::unwrap_or_default);
    /// // Browsers use `/`, native clients `/api`; the sessions are in one store.
    /// let api = Router::new()
    ///     .route("/user", get(user))
    ///     .layer(SessionLayer::new(store.clone()).with_header(HeaderOptions::default()));
    /// let app: Router = Router::new()
    ///     .route("/", get(user))
    ///     .layer(SessionLayer::new(store))
    ///     .nest("/api", api);
    /// # Ok::<(), fastsession::Error>(())
    /// ```
    #[must_use]
    pub fn with_header(self, header: HeaderOptions) -> Self {
        self.set(|settings| {
            settings.scope = Scope::header(header.name());
            settings.header = Some(header);
        })
    }

    /// When sessions are over. Default: 24 hours idle, 30 days absolute. Of these and those a
    /// session was created under, the earlier wins; one that was
    /// [remembered](crate::Session::remember) has its own instead.
    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        self.set(|settings| settings.timeouts = Some(timeouts))
    }

    /// How long activity may go unrecorded. Default: a twentieth of the idle timeout, at most 5
    /// minutes. Never more than half of a session's own idle timeout.
    #[must_use]
    pub fn with_touch_interval(self, interval: Duration) -> Self {
        self.set(|settings| settings.touch_interval = Some(interval))
    }

    /// Creates a session for every visitor, written to or not. Default: no.
    ///
    /// Each visitor without a cookie, every crawler too, then costs a stored session.
    #[must_use]
    pub fn create_always(self, always: bool) -> Self {
        self.set(|settings| settings.create_always = always)
    }

    /// The most sessions one user may have at a time in this realm. Default: any number.
    #[must_use]
    pub fn with_session_cap(self, cap: SessionCap) -> Self {
        self.set(|settings| settings.cap = Some(cap))
    }

    /// The most bytes of data a session may have. Default: 64 KiB.
    #[must_use]
    pub fn with_max_data_bytes(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_data_bytes = bytes)
    }

    /// Counts only these requests as activity: to leave out what a page polls by itself.
    /// Default: every request that reads the session.
    ///
    /// ```
    /// # fn demo(layer: fastsession::SessionLayer<fastsession::MemoryStore>) {
    /// let layer = layer.touch_when(|request| request.uri.path() != "/poll");
    /// # }
    /// ```
    #[must_use]
    pub fn touch_when(self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.configure(|config| config.touch_when = Some(Arc::new(predicate)))
    }

    /// Stands aside for these requests: they have no session, and extracting one is
    /// `is_no_layer()`. May be called again for others.
    #[must_use]
    pub fn skip_when(self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.configure(|config| config.skip.push(Arc::new(predicate)))
    }

    /// Stands aside for requests with this header: with this value, or with any if `None`.
    ///
    /// ```
    /// # use fastsession::{MemoryStore, SessionLayer};
    /// # use axum::http::{HeaderName, HeaderValue};
    /// # fn demo(layer: SessionLayer<MemoryStore>) {
    /// let layer = layer
    ///     .skip_header(HeaderName::from_static("x-health-check"), None)
    ///     .skip_header(HeaderName::from_static("x-api"), Some(HeaderValue::from_static("1")));
    /// # }
    /// ```
    #[must_use]
    pub fn skip_header(self, name: HeaderName, value: Option<HeaderValue>) -> Self {
        self.skip_when(move |request| match &value {
            Some(value) => request.headers.get_all(&name).iter().any(|found| found == value),
            None => request.headers.contains_key(&name),
        })
    }

    /// Turns errors of sessions into responses of the application's own, both those that
    /// handlers return and those of the commit before the response leaves. `None` leaves the
    /// default: for a store that fails, 503 with `Retry-After`.
    ///
    /// ```
    /// # fn demo(layer: fastsession::SessionLayer<fastsession::MemoryStore>) {
    /// use axum::response::{IntoResponse, Redirect};
    /// let layer = layer.on_error(|error| {
    ///     error.is_superseded().then(|| Redirect::to("/login").into_response())
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn on_error(
        self,
        hook: impl Fn(&Error) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        self.configure(|config| config.on_error = Some(Arc::new(hook)))
    }
}

impl<S, R: Realm> Clone for SessionLayer<S, R> {
    fn clone(&self) -> Self {
        Self { config: Arc::clone(&self.config), marker: PhantomData }
    }
}

impl<S, R: Realm> fmt::Debug for SessionLayer<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("settings", &self.config.shared.settings)
            .finish_non_exhaustive()
    }
}

impl<S, R: Realm, I> Layer<I> for SessionLayer<S, R> {
    type Service = SessionService<I, R>;

    fn layer(&self, inner: I) -> Self::Service {
        SessionService::new(inner, Arc::clone(&self.config))
    }
}
