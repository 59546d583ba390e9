//! The token in a header instead of a cookie.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, header};
use axum::routing::get;
use fastsession::store::KeyChange;
use fastsession::{
    CookieOptions, HeaderOptions, KeyRing, MemoryStore, Origin, Realm, Session, SessionLayer,
    SessionStore,
};

use super::support::{Browser, Probe, Reply, START, clock, layer, memory, send};
use super::{failed, routes};

const NAME: HeaderName = HeaderName::from_static("session-token");

fn by_header<S: SessionStore>(store: S) -> SessionLayer<S> {
    SessionLayer::new(store).with_header(HeaderOptions::default())
}

fn app(store: impl SessionStore) -> Router {
    routes()
        .route(
            "/failing-login",
            get(async |session: Session| {
                session.login("alice").await.unwrap();
                failed()
            }),
        )
        .route(
            "/own-vary",
            get(async |session: Session| {
                let _ = session.user().await;
                [(header::VARY, "Accept, Session-Token")]
            }),
        )
        .layer(by_header(store))
}

async fn ask(app: &Router, path: &str, lines: &[&[u8]]) -> Reply {
    let mut request = Request::get(path);
    for line in lines {
        request = request.header(NAME, HeaderValue::from_bytes(line).unwrap());
    }
    send(app, request.body(Body::empty()).unwrap()).await
}

/// What the response says to send from now on.
#[track_caller]
fn value(reply: &Reply) -> String {
    let values = reply.all(NAME);
    assert_eq!(values.len(), 1, "one value: {values:?}");
    assert!(reply.cookies().is_empty(), "{:?}", reply.cookies());
    values[0].into()
}

#[track_caller]
fn assert_no_value(reply: &Reply) {
    assert!(reply.all(NAME).is_empty(), "{:?}", reply.all(NAME));
    assert!(reply.cookies().is_empty(), "{:?}", reply.cookies());
}

#[tokio::test]
async fn a_client_signs_in_renews_and_signs_out_by_header() {
    let app = app(memory(&clock()));
    let reply = ask(&app, "/login", &[]).await;
    assert_eq!(reply.all(header::CACHE_CONTROL), ["no-store"]);
    assert_eq!(reply.all(header::VARY), ["session-token"]);
    let first = value(&reply);

    let reply = ask(&app, "/user", &[first.as_bytes()]).await;
    assert_eq!(reply.body, "alice");
    assert_no_value(&reply);
    assert_eq!(reply.all(header::VARY), ["session-token"]);
    assert!(reply.all(header::CACHE_CONTROL).is_empty());

    let second = value(&ask(&app, "/renew", &[first.as_bytes()]).await);
    assert_ne!(first, second);
    assert_eq!(ask(&app, "/user", &[first.as_bytes()]).await.body, "");
    assert_eq!(ask(&app, "/user", &[second.as_bytes()]).await.body, "alice");

    let reply = ask(&app, "/logout", &[second.as_bytes()]).await;
    assert_eq!(value(&reply), "", "an empty value says to forget it");
    assert_eq!(reply.all(header::CACHE_CONTROL), ["no-store"]);
    assert_eq!(ask(&app, "/user", &[second.as_bytes()]).await.body, "");
    assert_eq!(ask(&app, "/origin", &[b""]).await.body, "new");
}

#[tokio::test]
async fn rule_01_who_never_asks_for_the_session_costs_nothing_and_gets_no_header() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let token = value(&ask(&app, "/set", &[]).await);
    let before = store.counts.calls();
    let reply = ask(&app, "/", &[token.as_bytes()]).await;
    assert_no_value(&reply);
    assert!(reply.all(header::VARY).is_empty());
    assert_eq!(store.counts.calls(), before);
}

#[tokio::test]
async fn security_09_vary_is_not_said_twice() {
    let app = app(memory(&clock()));
    let reply = ask(&app, "/own-vary", &[]).await;
    assert_eq!(reply.all(header::VARY), ["Accept, Session-Token"]);
}

#[tokio::test]
async fn security_10_a_cookie_value_is_no_header_value_nor_the_reverse() {
    let store = Probe::new(&clock());
    let by_cookie = routes().layer(layer(store.clone()));
    let by_header = app(store.clone());
    let other = routes().layer(
        SessionLayer::new(store.clone()).with_header(HeaderOptions::named("x-other").unwrap()),
    );
    // The same name for both, so that nothing but the transport differs.
    let named = CookieOptions::builder().name("session-token").secure(false).build().unwrap();
    let same_name = routes().layer(SessionLayer::new(store.clone()).with_cookie(named));

    let mut browser = Browser::new(&by_cookie);
    browser.get("/login").await;
    let cookie = browser.jar.0["sid"].clone();
    let mut browser = Browser::new(&same_name);
    browser.get("/login").await;
    let same_named = browser.jar.0["session-token"].clone();
    let token = value(&ask(&by_header, "/login", &[]).await);

    let loads = store.counts.loads();
    for foreign in [&cookie, &same_named] {
        let reply = ask(&by_header, "/origin", &[foreign.as_bytes()]).await;
        assert_eq!(reply.body, "bad_signature");
        assert_no_value(&reply);
    }
    for (app, name, value) in [
        (&by_cookie, header::COOKIE, format!("sid={token}")),
        (&same_name, header::COOKIE, format!("session-token={token}")),
        (&other, HeaderName::from_static("x-other"), token.clone()),
    ] {
        let request = Request::get("/origin").header(name, value).body(Body::empty()).unwrap();
        assert_eq!(send(app, request).await.body, "bad_signature");
    }
    assert_eq!(store.counts.loads(), loads, "a bad MAC loads nothing");
}

#[tokio::test]
async fn security_07_a_token_is_taken_from_its_header_only() {
    let app = app(memory(&clock()));
    let token = value(&ask(&app, "/login", &[]).await);
    let places = [
        (header::COOKIE, format!("session-token={token}")),
        (header::COOKIE, format!("sid={token}; __Host-sid={token}")),
        (header::AUTHORIZATION, format!("Bearer {token}")),
        (HeaderName::from_static("x-session"), token.clone()),
        (HeaderName::from_static("session-tokens"), token.clone()),
    ];
    for (name, value) in places {
        let request = Request::get("/origin").header(&name, value).body(Body::empty()).unwrap();
        assert_eq!(send(&app, request).await.body, "new", "{name}");
    }
    let reply = ask(&app, &format!("/origin?session-token={token}"), &[]).await;
    assert_eq!(reply.body, "new");
}

#[tokio::test]
async fn rule_16_hostile_header_values_are_a_fresh_visitor() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let token = value(&ask(&app, "/login", &[]).await);
    let bytes = token.as_bytes();
    let flipped = |at: usize| {
        let mut changed = bytes.to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        changed
    };
    let mut hostile: Vec<Vec<u8>> = (0..bytes.len()).map(flipped).collect();
    hostile.extend((1..bytes.len()).map(|len| bytes[..len].to_vec()));
    hostile.extend([
        b" ".to_vec(),
        b"\t".to_vec(),
        b"=".to_vec(),
        b"\x80\xff".to_vec(),
        format!("{token}A").into(),
        format!("{token}=").into(),
        format!(" {token}").into(),
        format!("{token} ").into(),
        format!("{token}, {token}").into(),
        format!("{token};{token}").into(),
        format!("\"{token}\"").into(),
        format!("Bearer {token}").into(),
        format!("session-token={token}").into(),
        token.to_ascii_uppercase().into(),
        vec![b'A'; 4097],
        vec![b';'; 100_000],
    ]);
    let loads = store.counts.loads();
    for value in &hostile {
        let reply = ask(&app, "/user", &[value]).await;
        assert_eq!((reply.status.as_u16(), &*reply.body), (200, ""), "{}", value.escape_ascii());
        assert_no_value(&reply);
    }
    assert_eq!(store.counts.loads(), loads);
}

#[tokio::test]
async fn rule_16_several_lines_are_nobodys() {
    let app = app(memory(&clock()));
    let token = value(&ask(&app, "/login", &[]).await);
    let other = value(&ask(&app, "/login/bob", &[]).await);
    let (token, other) = (token.as_bytes(), other.as_bytes());
    for lines in [&[token, token][..], &[token, other], &[b"", token], &[token, b""], &[token; 50]]
    {
        assert_eq!(ask(&app, "/origin", lines).await.body, "malformed");
        assert_eq!(ask(&app, "/user", lines).await.body, "");
    }
    assert_eq!(ask(&app, "/user", &[token]).await.body, "alice");
}

#[tokio::test]
async fn rule_10_an_unknown_token_is_not_adopted_however_well_it_is_signed() {
    let ring = KeyRing::generate(START).unwrap();
    let store = || MemoryStore::builder().clock(clock()).key_ring(ring.clone()).build().unwrap();
    let token = value(&ask(&app(store()), "/set", &[]).await);
    let elsewhere = app(store());
    assert_eq!(ask(&elsewhere, "/origin", &[token.as_bytes()]).await.body, "not_found");
    let new = value(&ask(&elsewhere, "/set", &[token.as_bytes()]).await);
    assert_ne!(new, token);
    assert_eq!(ask(&elsewhere, "/get", &[token.as_bytes()]).await.body, "");
    assert_eq!(ask(&elsewhere, "/get", &[new.as_bytes()]).await.body, "v");
}

#[tokio::test]
async fn rule_08_a_superseded_request_gets_no_header() {
    let app = app(memory(&clock()));
    let first = value(&ask(&app, "/login", &[]).await);
    let _second = value(&ask(&app, "/renew", &[first.as_bytes()]).await);
    let reply = ask(&app, "/set", &[first.as_bytes()]).await;
    assert_no_value(&reply);
    assert_eq!(ask(&app, "/origin", &[first.as_bytes()]).await.body, "superseded");
}

#[tokio::test]
async fn rule_08_a_login_is_delivered_on_a_failing_response_too() {
    let app = app(memory(&clock()));
    let reply = ask(&app, "/failing-login", &[]).await;
    assert_eq!(reply.status, 500);
    let token = value(&reply);
    assert_eq!(ask(&app, "/user", &[token.as_bytes()]).await.body, "alice");
}

#[tokio::test]
async fn rule_17_a_store_that_is_down_leaves_the_header_alone() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let token = value(&ask(&app, "/login", &[]).await);
    store.counts.down.store(true, Ordering::SeqCst);
    for path in ["/user", "/set", "/logout"] {
        let reply = ask(&app, path, &[token.as_bytes()]).await;
        assert_eq!(reply.status, 503);
        assert_no_value(&reply);
    }
}

#[tokio::test]
async fn a_value_of_a_retiring_key_is_signed_anew() {
    let store = memory(&clock());
    let app = app(store.clone());
    let old = value(&ask(&app, "/login", &[]).await);
    let now = store.clock().now();
    store.change_keys(KeyChange::Rotate { at: now, retire_after: None }).await.unwrap();
    let new = value(&ask(&app, "/user", &[old.as_bytes()]).await);
    assert_ne!(old, new);
    for token in [&old, &new] {
        assert_eq!(ask(&app, "/user", &[token.as_bytes()]).await.body, "alice");
    }
    assert_no_value(&ask(&app, "/user", &[new.as_bytes()]).await);
}

struct Api;
impl Realm for Api {
    const NAME: &'static str = "api";
}

#[tokio::test]
async fn a_header_layer_of_another_realm_goes_beside_a_cookie_layer() {
    let store = memory(&clock());
    let both = async |page: Session, api: Session<Api>| {
        let (page, api) = (page.origin().await.unwrap(), api.origin().await.unwrap());
        format!("{page} {api}")
    };
    let app = Router::new()
        .route("/both", get(both))
        .route("/api-login", get(async |api: Session<Api>| api.login("alice").await))
        .layer(
            SessionLayer::<_, Api>::for_realm(store.clone()).with_header(HeaderOptions::default()),
        )
        .layer(layer(store));
    let reply = ask(&app, "/api-login", &[]).await;
    let token = value(&reply);
    let reply = ask(&app, "/both", &[token.as_bytes()]).await;
    assert_eq!(reply.body, format!("{} {}", Origin::New, Origin::Restored));
    let mut vary = reply.all(header::VARY);
    vary.sort_unstable();
    assert_eq!(vary, ["cookie", "session-token"]);
}

#[tokio::test]
async fn the_last_of_header_and_cookie_stands() {
    let store = memory(&clock());
    let app = routes().layer(by_header(store).with_cookie(CookieOptions::insecure_http()));
    let reply = ask(&app, "/login", &[]).await;
    assert!(reply.cookie().starts_with("sid=1."));
    assert!(reply.all(NAME).is_empty());
}
