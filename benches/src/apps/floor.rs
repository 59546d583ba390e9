//! What a signed session in memory cannot do without, written out by hand, and nothing else.
//!
//! The layer puts one handle into the request and remembers the `Cookie` header. A handler that
//! asks finds the cookie, decodes it, takes three compressions of SHA-256 (two for its MAC, one for
//! the session ID), and looks into a map under a lock; one that writes puts a new row there; a new
//! session draws its token from the operating system. The response says `Vary`, and `Set-Cookie`.
//!
//! There are no timeouts, no logout, no renewal, no ring of keys, no errors, no second value, no
//! clone of a handle that commits at the same time: none of what a session is for.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, RwLock};
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use sha2::block_api::compress256;
use tower::{Layer, Service};

use super::next_value;

pub(super) const TOKEN: usize = 34;
pub(super) const NAME: &[u8] = b"sid=";
/// `1.<key id>.`
const BEFORE: &[u8] = b"1.0badc0de.";

pub(crate) fn router() -> Router {
    let router = Router::new()
        .route("/ignore", get(async |_: Extension<Handle>| "ok"))
        .route("/read", get(async |handle: Extension<Handle>| handle.read()))
        .route("/count", get(async |handle: Extension<Handle>| handle.count()))
        .route("/write", get(async |handle: Extension<Handle>| handle.write()));
    super::with_the_others(router, &["/ignore", "/read", "/write"]).layer(Layered::<Inner>::new())
}

#[derive(Default)]
pub(crate) struct Shared {
    rows: RwLock<HashMap<[u8; 32], Arc<[u8]>>>,
    drawn: Drawn,
}

/// Tokens drawn ahead, thirty at a time.
#[derive(Default)]
pub(super) struct Drawn(Mutex<Vec<u8>>);

type Handle = Arc<Inner>;

pub(crate) struct Inner {
    shared: Arc<Shared>,
    cookie: Option<HeaderValue>,
    done: Mutex<Done>,
}

#[derive(Default)]
pub(super) struct Done {
    pub(super) asked: bool,
    pub(super) set_cookie: Option<String>,
}

impl Done {
    pub(super) fn dress(&mut self, headers: &mut HeaderMap) {
        if let Some(cookie) = self.set_cookie.take() {
            headers.append(SET_COOKIE, HeaderValue::try_from(cookie).expect("a cookie"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if self.asked {
            headers.append(VARY, HeaderValue::from_static("cookie"));
        }
    }
}

impl Inner {
    fn id(&self) -> Option<[u8; 32]> {
        self.done.lock().expect("nobody panics").asked = true;
        let cookie = self.cookie.as_ref()?.as_bytes();
        let sealed = cookie.strip_prefix(NAME)?.strip_prefix(BEFORE)?;
        let (token, mac) = sealed.split_at_checked(46)?;
        let (mut decoded, mut given) = ([0; TOKEN], [0; 32]);
        BASE64.decode_slice(token, &mut decoded).ok()?;
        BASE64.decode_slice(mac.strip_prefix(b".")?, &mut given).ok()?;
        (mac_of(token) == given).then(|| hash(&decoded))
    }

    fn row(&self, id: &[u8; 32]) -> Option<Arc<[u8]>> {
        self.shared.rows.read().expect("nobody panics").get(id).cloned()
    }

    fn read(&self) -> String {
        self.id().and_then(|id| self.row(&id)).map_or(0, |row| value(&row)).to_string()
    }

    fn count(&self) -> String {
        let id = self.id().unwrap_or_else(|| self.begin());
        let n = self.row(&id).map_or(0, |row| value(&row)) + 1;
        self.put(id, n);
        n.to_string()
    }

    fn write(&self) -> &'static str {
        self.put(self.id().unwrap_or_else(|| self.begin()), next_value());
        "ok"
    }

    fn put(&self, id: [u8; 32], value: u64) {
        let row: Arc<[u8]> = value.to_le_bytes().into();
        self.shared.rows.write().expect("nobody panics").insert(id, row);
    }

    fn begin(&self) -> [u8; 32] {
        let token = self.shared.drawn.next();
        self.done.lock().expect("nobody panics").set_cookie = Some(set_cookie(&token));
        hash(&token)
    }
}

/// What a new session's `Set-Cookie` says.
pub(super) fn set_cookie(token: &[u8; TOKEN]) -> String {
    let mut text = String::with_capacity(160);
    text.push_str("sid=1.0badc0de.");
    let start = text.len();
    BASE64.encode_string(token, &mut text);
    let mac = mac_of(&text.as_bytes()[start..]);
    text.push('.');
    BASE64.encode_string(mac, &mut text);
    text.push_str("; Path=/; SameSite=Lax; HttpOnly");
    text
}

impl Drawn {
    pub(super) fn next(&self) -> [u8; TOKEN] {
        let mut drawn = self.0.lock().expect("nobody panics");
        if drawn.len() < TOKEN {
            drawn.resize(30 * TOKEN, 0);
            getrandom::fill(&mut drawn).expect("randomness");
        }
        let rest = drawn.len() - TOKEN;
        let token = drawn[rest..].try_into().expect("its length");
        drawn.truncate(rest);
        token
    }
}

fn value(row: &[u8]) -> u64 {
    row.try_into().map_or(0, u64::from_le_bytes)
}

/// One compression.
pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    let (mut state, mut block) = ([1; 8], [0; 64]);
    block[..bytes.len()].copy_from_slice(bytes);
    compress256(&mut state, &[block]);
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = u32::to_be_bytes(word);
    }
    hash
}

/// Two compressions, as HMAC takes whose key's blocks are hashed already.
pub(super) fn mac_of(token: &[u8]) -> [u8; 32] {
    hash(&hash(token))
}

impl Least for Inner {
    type Shared = Shared;

    fn new(shared: Arc<Shared>, cookie: Option<HeaderValue>) -> Self {
        Self { shared, cookie, done: Mutex::default() }
    }

    fn close(&self, response: &mut Response) {
        self.done.lock().expect("nobody panics").dress(response.headers_mut());
    }
}

/// What a layer by hand puts into each request.
pub(super) trait Least: Send + Sync + 'static {
    /// Of all requests.
    type Shared: Default + Send + Sync;

    fn new(shared: Arc<Self::Shared>, cookie: Option<HeaderValue>) -> Self;

    /// When the response comes back.
    fn close(&self, response: &mut Response);
}

pub(super) struct Layered<L: Least>(Arc<L::Shared>);

impl<L: Least> Layered<L> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }
}

impl<L: Least> Clone for Layered<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: Least, I> Layer<I> for Layered<L> {
    type Service = Floored<L, I>;

    fn layer(&self, inner: I) -> Floored<L, I> {
        Floored { inner, shared: self.0.clone() }
    }
}

pub(super) struct Floored<L: Least, I> {
    inner: I,
    shared: Arc<L::Shared>,
}

impl<L: Least, I: Clone> Clone for Floored<L, I> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

impl<L: Least, I: Service<Request<Body>, Response = Response>> Service<Request<Body>>
    for Floored<L, I>
where
    I::Future: Unpin,
{
    type Response = Response;
    type Error = I::Error;
    type Future = Floating<L, I::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let cookie = request.headers().get(COOKIE).cloned();
        let handle = Arc::new(L::new(self.shared.clone(), cookie));
        request.extensions_mut().insert(handle.clone());
        Floating { inner: self.inner.call(request), handle }
    }
}

pub(super) struct Floating<L, F> {
    inner: F,
    handle: Arc<L>,
}

impl<L: Least, F, E> Future for Floating<L, F>
where
    F: Future<Output = Result<Response, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut response = ready!(Pin::new(&mut self.inner).poll(context))?;
        self.handle.close(&mut response);
        Poll::Ready(Ok(response))
    }
}
