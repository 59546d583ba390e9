//! Hostile cookies, key rotation and what must not leak, through a real router.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::{Browser, Jar, MINUTE, Probe, clock, layer, memory, send, with_cookies};
use axum::Router;
use axum::http::{HeaderValue, Request, header};
use axum::routing::get;
use fastsession::store::{Freshness, KeyChange};
use fastsession::{CookieOptions, Origin, Session, SessionLayer, SessionStore, Timeouts, testing};

fn routes() -> Router {
    Router::new()
        .route("/set", get(async |session: Session| session.insert("k", "payload-sentinel").await))
        .route("/user", get(async |s: Session| s.user().await.map(Option::unwrap_or_default)))
        .route("/origin", get(async |s: Session| s.origin().await.map(Origin::as_str)))
        .route("/login", get(async |session: Session| session.login("alice").await))
        .route("/renew", get(async |session: Session| session.renew().await))
        .route("/logout", get(async |session: Session| session.destroy().await))
        .route("/id", get(async |s: Session| s.id().await.map(|id| id.unwrap().to_string())))
}

struct Site {
    app: Router,
    store: Probe,
    value: String,
}

impl Site {
    async fn new() -> Self {
        let store = Probe::new(&clock());
        let app = routes().layer(layer(store.clone()));
        let mut browser = Browser::new(&app);
        browser.get("/login").await;
        let value = browser.jar.0["sid"].clone();
        Self { app, store, value }
    }

    async fn user(&self, cookies: &[&[u8]]) -> String {
        let reply = with_cookies(&self.app, "/user", cookies).await;
        assert_eq!(reply.status, 200);
        assert!(reply.cookies().is_empty());
        reply.body
    }
}

#[tokio::test]
async fn headers_that_must_load_load() {
    let site = Site::new().await;
    let value = &site.value;
    let ok: Vec<Vec<Vec<u8>>> = vec![
        vec![format!("sid={value}").into()],
        vec![format!("a=1;sid={value}").into()],
        vec![format!("a=1;\tsid={value}").into()],
        vec![format!("sid= \t{value} ; b=2").into()],
        vec![b"a=1".to_vec(), format!("sid={value}").into()],
        vec![format!("sid={value};garbage").into()],
        vec![format!("garbage;sid={value}").into()],
        vec![[b"x=\x80\xff; sid=", value.as_bytes()].concat()],
        vec![format!("sid=junk; sid={value}").into()],
        vec![format!("sid={value}; sid=junk").into()],
        vec![format!("sid={value}; sid={value}").into()],
    ];
    for headers in ok {
        let headers: Vec<_> = headers.iter().map(Vec::as_slice).collect();
        assert_eq!(site.user(&headers).await, "alice", "{:?}", headers.len());
    }
}

#[tokio::test]
async fn headers_that_must_not_load_are_anonymous_and_cost_no_load() {
    let site = Site::new().await;
    let value = &site.value;
    let loads = site.store.counts.loads();
    let mut hostile: Vec<Vec<u8>> = [
        "",
        " ",
        ";",
        ";;;;",
        "=",
        "==",
        "sid",
        "sid=",
        "SID=V",
        "=V",
        "=sid=V",
        "%73id=V",
        "a=b, sid=V",
        "sid=\"V\"",
        "sid=V V",
        "sid=VA",
        "sid=V=",
        "sid=.V",
        "sid=V.",
        "Sid=V",
    ]
    .iter()
    .map(|text| text.replace('V', value).into_bytes())
    .collect();
    for space in ["\u{2000}", "\u{a0}", "\u{feff}"] {
        hostile.push(format!("{space}sid={value}").into_bytes());
    }
    hostile.push([b"sid=", value.as_bytes(), b"\xff"].concat());
    hostile.push(format!("sid={}", "a".repeat(4097)).into());
    hostile.push(format!("sid={}", "a".repeat(64 * 1024)).into());
    hostile.push(";".repeat(100_000).into());
    hostile.push(format!("{};sid={value}", "a=1;".repeat(5000)).into());
    hostile.push(["sid=1", "sid=2", "sid=3", "sid=4", &format!("sid={value}")].join(";").into());
    for header in hostile {
        if HeaderValue::from_bytes(&header).is_err() {
            continue;
        }
        let text = String::from_utf8_lossy(&header).chars().take(80).collect::<String>();
        assert_eq!(site.user(&[&header]).await, "", "{text}");
    }
    let elsewhere = Request::get(format!("/user?sid={value}"))
        .header(header::AUTHORIZATION, format!("Bearer {value}"))
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(send(&site.app, elsewhere).await.body, "");
    assert_eq!(site.store.counts.loads(), loads);
}

#[tokio::test]
async fn every_changed_value_is_refused_without_a_load() {
    let site = Site::new().await;
    let value = site.value.as_bytes();
    let loads = site.store.counts.loads();
    for position in 0..value.len() {
        for bit in 0..8 {
            let mut flipped = value.to_vec();
            flipped[position] ^= 1 << bit;
            let header = [b"sid=", &*flipped].concat();
            if HeaderValue::from_bytes(&header).is_ok() && flipped[position] != b';' {
                assert_eq!(site.user(&[&header]).await, "", "byte {position} bit {bit}");
            }
        }
        let cut = [b"sid=", &value[..position]].concat();
        assert_eq!(site.user(&[&cut]).await, "", "cut at {position}");
    }
    assert_eq!(site.store.counts.loads(), loads);
}

#[tokio::test]
async fn a_stored_id_or_a_value_of_another_cookie_opens_nothing() {
    let site = Site::new().await;
    let own = format!("sid={}", site.value);
    let id = with_cookies(&site.app, "/id", &[own.as_bytes()]).await.body;
    assert_eq!(site.user(&[format!("sid={id}").as_bytes()]).await, "");
    let token = site.value.split('.').nth(2).unwrap();
    assert_eq!(site.user(&[format!("sid={token}").as_bytes()]).await, "");

    let named = CookieOptions::insecure_http().to_builder().name("other").build().unwrap();
    let other = routes().layer(SessionLayer::new(site.store.clone()).with_cookie(named));
    let moved = format!("other={}", site.value);
    let reply = with_cookies(&other, "/origin", &[moved.as_bytes()]).await;
    assert_eq!(reply.body, "bad_signature");
}

#[tokio::test]
async fn rule_16_origins_are_told_apart_and_look_the_same() {
    let site = Site::new().await;
    let clock = site.store.clock();
    let origin = async |value: &str| {
        let cookie = format!("sid={value}");
        let reply = with_cookies(&site.app, "/origin", &[cookie.as_bytes()]).await;
        assert!(reply.cookies().is_empty());
        reply.body
    };
    assert_eq!(with_cookies(&site.app, "/origin", &[]).await.body, "new");
    assert_eq!(origin(&site.value).await, "restored");
    assert_eq!(origin("junk").await, "malformed");
    let mut forged = site.value.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'E' } else { 'A' });
    assert_eq!(origin(&forged).await, "bad_signature");
    let mut browser = Browser::new(&site.app);
    browser.jar.0.insert("sid".into(), site.value.clone());
    browser.get("/renew").await;
    assert_eq!(origin(&site.value).await, "superseded");
    let renewed = browser.jar.0["sid"].clone();
    browser.get("/logout").await;
    assert_eq!(origin(&renewed).await, "ended");
    browser.get("/set").await;
    clock.advance(Timeouts::default().idle);
    assert_eq!(origin(&browser.jar.0["sid"]).await, "expired");
    clock.advance(Timeouts::default().idle);
    site.store.inner.purge().await.unwrap();
    assert_eq!(origin(&browser.jar.0["sid"]).await, "not_found");
}

#[tokio::test]
async fn of_several_verified_cookies_the_live_one_is_taken_whatever_their_order() {
    let site = Site::new().await;
    let mut browser = Browser::new(&site.app);
    browser.get("/login").await;
    let second = browser.jar.0["sid"].clone();
    for pair in [[&site.value, &second], [&second, &site.value]] {
        let header = format!("sid={}; sid={}", pair[0], pair[1]);
        let reply = with_cookies(&site.app, "/origin", &[header.as_bytes()]).await;
        assert_eq!(reply.body, "malformed");
    }
    browser.get("/logout").await;
    for pair in [[&site.value, &second], [&second, &site.value]] {
        let header = format!("sid={}; sid={}", pair[0], pair[1]);
        assert_eq!(site.user(&[header.as_bytes()]).await, "alice");
    }
}

async fn rotate(store: &impl SessionStore, retire_after: Duration) {
    let at = store.clock().now();
    let change = KeyChange::Rotate { at, retire_after: Some(retire_after) };
    store.change_keys(change).await.unwrap();
}

#[tokio::test]
async fn a_cookie_of_a_retiring_key_is_signed_anew_if_still_current() {
    let site = Site::new().await;
    let clock = site.store.clock();
    let renewing = {
        let app = site.app.clone();
        async move |session: Session, headers: axum::http::HeaderMap| {
            session.user().await.unwrap();
            let cookie = headers[header::COOKIE].as_bytes().to_vec();
            with_cookies(&app, "/renew", &[&cookie]).await.cookie();
        }
    };
    let app = routes().route("/beside", get(renewing)).layer(layer(site.store.clone()));
    let mut browser = Browser::new(&app);
    browser.jar.0.insert("sid".into(), site.value.clone());
    rotate(&site.store, 10 * MINUTE).await;

    let reply = browser.peek("/user").await;
    assert_eq!(reply.body, "alice");
    let mut resigned = browser.clone();
    resigned.jar.receive(&reply.headers);
    assert_ne!(resigned.jar.0["sid"], site.value);
    let token = |value: &str| value.split('.').nth(2).unwrap().to_owned();
    assert_eq!(token(&resigned.jar.0["sid"]), token(&site.value));
    assert!(resigned.get("/user").await.cookies().is_empty());

    let reply = browser.peek("/beside").await;
    assert_eq!(reply.status, 200);
    assert!(reply.cookies().is_empty(), "its session was renewed meanwhile");

    clock.advance(10 * MINUTE);
    assert_eq!(browser.peek("/origin").await.body, "bad_signature");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_waits_for_one_shared_reread() {
    let store = Probe::new(&clock());
    let app = routes().layer(layer(store.clone()));
    let old = store.inner.keys(Freshness::Current).await.unwrap();
    rotate(&store.inner, MINUTE).await;
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    // Another process rotated, and this one has not noticed yet.
    store.counts.old_ring.set(Some(old));
    let before = store.counts.current_keys.load(Ordering::SeqCst);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let browser = browser.clone();
            tokio::spawn(async move { browser.peek("/user").await.body })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "alice");
    }
    let rereads = store.counts.current_keys.load(Ordering::SeqCst) - before;
    assert!((1..=2).contains(&rereads), "{rereads}");

    let started = tokio::time::Instant::now();
    for _ in 0..10 {
        let mut unknown = browser.clone();
        let value = unknown.jar.0["sid"].clone();
        let other = if &value[2..10] == "00000000" { "11111111" } else { "00000000" };
        unknown.jar = Jar([("sid".into(), format!("1.{other}{}", &value[10..]))].into());
        assert_eq!(unknown.peek("/origin").await.body, "bad_signature");
    }
    assert!(started.elapsed() >= Duration::from_millis(900), "throttled");
}

#[tokio::test]
async fn a_signed_in_request_and_a_ready_session_for_applications_tests() {
    let store = memory(&clock());
    let cookie = CookieOptions::insecure_http();
    let alice = testing::signed_in::<(), _>(&store, &cookie, "alice").await.unwrap();
    let app = routes().layer(layer(store.clone()));
    let reply = with_cookies(&app, "/user", &[alice.cookie.as_bytes()]).await;
    assert_eq!(reply.body, "alice");
    let reply = with_cookies(&app, "/id", &[alice.cookie.as_bytes()]).await;
    assert_eq!(reply.body, alice.id.to_string());
    let session = testing::session(&store);
    session.insert("k", &1).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(store.stats().await.unwrap().records, 2);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }

    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        // With a single subscriber alive, an event that another thread comes by first is taken for
        // one that nobody wants.
        static SECOND: std::sync::OnceLock<tracing::Dispatch> = std::sync::OnceLock::new();
        SECOND.get_or_init(|| {
            tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish())
        });
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

#[tokio::test]
async fn logs_and_debug_output_show_neither_tokens_nor_payloads() {
    let log = Log::default();
    let _guard = log.capture();
    let site = Site::new().await;
    let app = &site.app;
    let debug = async |session: Session| {
        session.insert("k", "payload-sentinel").await.unwrap();
        let error = session.get::<u64>("k").await.unwrap_err();
        let shown = format!("{session:?}");
        format!("{shown} {error} {error:?}")
    };
    let debug = routes().route("/debug", get(debug)).layer(layer(site.store.clone()));
    let mut browser = Browser::new(app);
    let mut secrets = vec!["payload-sentinel".to_owned()];
    for path in ["/set", "/login", "/renew", "/user", "/set", "/logout", "/user"] {
        let reply = browser.get(path).await;
        assert_eq!(reply.status, 200);
        if let Some(value) = browser.jar.0.get("sid") {
            secrets.extend(value.split('.').skip(2).map(Into::into));
        }
    }
    let own = format!("sid={}", site.value);
    let shown = with_cookies(&debug, "/debug", &[own.as_bytes()]).await.body;
    assert!(shown.contains("SessionId("), "{shown}");
    with_cookies(app, "/user", &[b"sid=malformed-sentinel"]).await;
    site.store.counts.down.store(true, Ordering::SeqCst);
    with_cookies(app, "/user", &[own.as_bytes()]).await;
    secrets.extend(site.value.split('.').skip(2).map(Into::into));
    secrets.push("malformed-sentinel".into());
    let text = log.text() + &shown;
    assert!(text.contains("session concluded"));
    for secret in secrets {
        assert!(!text.contains(&secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn a_secure_cookie_over_plain_http_warns_once_and_lost_changes_warn() {
    let log = Log::default();
    let _guard = log.capture();
    let store = memory(&clock());
    let app = routes().layer(SessionLayer::new(store.clone()));
    let visit = async |origin: &'static str| {
        let request = Request::get("/set").header(header::ORIGIN, origin);
        send(&app, request.body(axum::body::Body::empty()).unwrap()).await;
        log.text().matches("Secure session cookie").count()
    };
    assert_eq!(visit("https://example.org").await, 0);
    assert_eq!(visit("http://localhost:3000").await, 0);
    assert_eq!(visit("http://example.org").await, 1);
    assert_eq!(visit("http://example.org").await, 0);

    let alice = testing::signed_in::<(), _>(&store, &CookieOptions::default(), "alice").await;
    let job = Session::by_id(&store, alice.unwrap().id).await.unwrap();
    job.insert("k", &1).await.unwrap();
    drop(job);
    assert!(log.text().contains("session changes lost"));
}
