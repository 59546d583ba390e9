//! A router, a browser with a cookie jar, and stores that count, fail and wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::Response;
use fastsession::record::Absence;
use fastsession::store::{
    Access, Answer, Commit, End, EndReport, Freshness, Import, Imported, Inspected, KeyChange,
    Loaded, Op, Outcome, Page, Query, Records, Remove, Stats, Sweep, Swept, Timing,
};
use fastsession::{
    Clock, CookieOptions, Error, KeyRing, MemoryStore, SessionId, SessionLayer, SessionStore,
    Timestamp,
};
use http_body_util::BodyExt;
use tower::ServiceExt;

pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Set, it makes the tests print all that is logged, at TRACE.
pub(crate) const TRACE: &str = "FASTSESSION_TRACE";

/// Begins to print what is logged, if that is asked for.
fn trace() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os(TRACE).is_some() {
            let level = tracing::Level::TRACE;
            let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
            tracing::subscriber::set_global_default(subscriber.finish()).ok();
        }
    });
}

pub(crate) fn clock() -> Clock {
    trace();
    Clock::manual(START)
}

pub(crate) fn memory(clock: &Clock) -> MemoryStore {
    MemoryStore::builder().clock(clock.clone()).build().unwrap()
}

pub(crate) fn layer<S: SessionStore>(store: S) -> SessionLayer<S> {
    SessionLayer::new(store).with_cookie(CookieOptions::insecure_http())
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) async fn read(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(bytes.to_vec()).unwrap();
        Self { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) fn all(&self, name: header::HeaderName) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    pub(crate) fn cookies(&self) -> Vec<&str> {
        self.all(header::SET_COOKIE)
    }

    /// The one session cookie set, with its attributes.
    #[track_caller]
    pub(crate) fn cookie(&self) -> &str {
        let own: Vec<_> =
            self.cookies().into_iter().filter(|cookie| cookie.starts_with("sid=")).collect();
        assert_eq!(own.len(), 1, "one session cookie: {:?}", self.cookies());
        own[0]
    }
}

/// What a browser keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jar(pub BTreeMap<String, String>);

impl Jar {
    pub(crate) fn receive(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(header::SET_COOKIE) {
            let text = value.to_str().unwrap();
            let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.0.remove(name);
            } else {
                self.0.insert(name.into(), value.into());
            }
        }
    }

    pub(crate) fn header(&self) -> Option<String> {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// A browser on a router.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) app: Router,
    pub(crate) jar: Jar,
}

impl Browser {
    pub(crate) fn new(app: &Router) -> Self {
        Self { app: app.clone(), jar: Jar::default() }
    }

    pub(crate) fn request(&self, path: &str) -> Request<Body> {
        let request = Request::get(path);
        match self.jar.header() {
            Some(cookies) => request.header(header::COOKIE, cookies),
            None => request,
        }
        .body(Body::empty())
        .unwrap()
    }

    /// Requests `path` and keeps the cookies.
    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        let page = self.peek(path).await;
        self.jar.receive(&page.headers);
        page
    }

    /// Requests `path` and keeps nothing.
    pub(crate) async fn peek(&self, path: &str) -> Reply {
        send(&self.app, self.request(path)).await
    }
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Reply {
    Reply::read(app.clone().oneshot(request).await.unwrap()).await
}

/// Requests `/` with these `Cookie` headers.
pub(crate) async fn with_cookies(app: &Router, path: &str, cookies: &[&[u8]]) -> Reply {
    let mut request = Request::get(path);
    for cookie in cookies {
        request = request.header(header::COOKIE, *cookie);
    }
    send(app, request.body(Body::empty()).unwrap()).await
}

/// A store that counts, fails and waits on demand.
#[derive(Clone)]
pub(crate) struct Probe<S = MemoryStore> {
    pub(crate) inner: S,
    pub(crate) counts: Arc<Counts>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) loads: AtomicUsize,
    pub(crate) commits: AtomicUsize,
    pub(crate) touches: AtomicUsize,
    pub(crate) recent_keys: AtomicUsize,
    pub(crate) current_keys: AtomicUsize,
    /// Fail everything.
    pub(crate) down: AtomicBool,
    /// Fail commits only.
    pub(crate) read_only: AtomicBool,
    /// Carry out commits, then say that the outcome is unknown.
    pub(crate) forgetful: AtomicBool,
    /// Find every record undecodable.
    pub(crate) corrupt: AtomicBool,
    /// Find the new ID taken, this often.
    pub(crate) collisions: AtomicUsize,
    /// Never be ready at once, but with a recent ring.
    pub(crate) slow: AtomicBool,
    /// Have no ring at hand.
    pub(crate) no_ring_at_hand: AtomicBool,
    /// Answer the old ring to `Recent`.
    pub(crate) old_ring: Slot<KeyRing>,
}

/// A value that a test sets while others read it.
pub(crate) struct Slot<T>(Mutex<Option<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Slot<T> {
    pub(crate) fn set(&self, value: Option<T>) {
        *self.0.lock().unwrap() = value;
    }

    pub(crate) fn get(&self) -> Option<T> {
        self.0.lock().unwrap().clone()
    }
}

impl Counts {
    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    pub(crate) fn touches(&self) -> usize {
        self.touches.load(Ordering::SeqCst)
    }

    pub(crate) fn calls(&self) -> usize {
        self.loads()
            + self.commits()
            + self.touches()
            + self.recent_keys.load(Ordering::SeqCst)
            + self.current_keys.load(Ordering::SeqCst)
    }
}

impl Probe {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self::around(memory(clock))
    }
}

impl<S> Probe<S> {
    pub(crate) fn around(inner: S) -> Self {
        Self { inner, counts: Arc::default() }
    }

    fn answer<T: Send + 'static>(&self, down: bool, answer: Answer<T>) -> Answer<T> {
        if down || self.counts.down.load(Ordering::SeqCst) {
            return Answer::ready(Err(Error::unavailable("the store is down")));
        }
        if self.counts.slow.load(Ordering::SeqCst) {
            return Answer::pending(async move {
                tokio::task::yield_now().await;
                let answer = answer.await;
                tokio::task::yield_now().await;
                answer
            });
        }
        answer
    }
}

impl<S: SessionStore> SessionStore for Probe<S> {
    fn clock(&self) -> Clock {
        self.inner.clock()
    }
    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        self.counts.loads.fetch_add(1, Ordering::SeqCst);
        if self.counts.corrupt.load(Ordering::SeqCst) {
            return Answer::ready(Ok(Loaded::Absent(Absence::Corrupt)));
        }
        self.answer(false, self.inner.load(id, access))
    }
    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        self.counts.commits.fetch_add(1, Ordering::SeqCst);
        let read_only = self.counts.read_only.load(Ordering::SeqCst);
        if read_only {
            return self.answer(true, Answer::ready(Ok(Outcome::Exists)));
        }
        let collisions = &self.counts.collisions;
        if collisions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
        {
            return Answer::ready(Ok(Outcome::Exists));
        }
        if self.counts.corrupt.load(Ordering::SeqCst) && !matches!(commit.op, Op::Create { .. }) {
            return Answer::ready(Ok(Outcome::Absent(Absence::Corrupt)));
        }
        let answer = self.inner.commit(commit);
        if self.counts.forgetful.swap(false, Ordering::SeqCst) {
            return Answer::ready(Err(Error::unknown_outcome("the connection broke")));
        }
        self.answer(false, answer)
    }
    fn touch(&self, id: &SessionId, access: &Access) {
        self.counts.touches.fetch_add(1, Ordering::SeqCst);
        self.inner.touch(id, access);
    }
    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        self.answer(false, self.inner.inspect(id))
    }
    fn page(&self, query: &Query) -> Answer<Page> {
        self.answer(false, self.inner.page(query))
    }
    fn end(&self, end: End) -> Answer<EndReport> {
        self.answer(false, self.inner.end(end))
    }
    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        self.inner.sweep(sweep)
    }
    fn remove(&self, remove: Remove) -> Answer<Swept> {
        self.inner.remove(remove)
    }
    fn records(&self, query: &Query) -> Answer<Records> {
        self.inner.records(query)
    }
    fn import(&self, import: Import) -> Answer<Imported> {
        self.inner.import(import)
    }
    fn stats(&self) -> Answer<Stats> {
        self.inner.stats()
    }
    fn timing(&self) -> Answer<Timing> {
        self.inner.timing()
    }
    fn keys(&self, freshness: Freshness) -> Answer<KeyRing> {
        let counter = match freshness {
            Freshness::Recent => &self.counts.recent_keys,
            Freshness::Current => &self.counts.current_keys,
        };
        counter.fetch_add(1, Ordering::SeqCst);
        let answer = match (freshness, self.counts.old_ring.get()) {
            (Freshness::Recent, Some(old)) => Answer::ready(Ok(old)),
            _ => self.inner.keys(freshness),
        };
        if self.counts.no_ring_at_hand.load(Ordering::SeqCst) {
            return Answer::pending(async move {
                tokio::task::yield_now().await;
                answer.await
            });
        }
        // However slow a store is, it has a ring at hand.
        if freshness == Freshness::Recent && !self.counts.down.load(Ordering::SeqCst) {
            return answer;
        }
        self.answer(false, answer)
    }
    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        self.inner.change_keys(change)
    }
    fn close(&self) -> Answer<()> {
        self.inner.close()
    }
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
