//! Values with the right signature that must open nothing all the same.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use fastsession::store::KeyChange;
use fastsession::{
    CookieOptions, Key, KeyRing, MemoryStore, Selector, SessionStore, Timeouts, testing,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::app;
use crate::support::{Browser, MINUTE, Probe, clock, layer, with_cookies};

/// A key this test knows, so that it can sign whatever it likes.
fn secret() -> [u8; 32] {
    Sha256::digest(b"a key of the tests").into()
}

fn key() -> Key {
    Key::from_bytes(secret()).unwrap()
}

/// From the description of the format alone: a label, the transport, the length and bytes of the
/// cookie's name, zeros, and all up to the last separator.
fn signed(text: &str, name: &str, secret: &[u8]) -> String {
    let length = (name.len() as u64).to_be_bytes();
    let mut scope = [&b"fastsession session token\0\x01"[..], &length, name.as_bytes()].concat();
    // Up to where the token begins it is whole blocks.
    while !(scope.len() + "1.00000000.".len()).is_multiple_of(64) {
        scope.push(0);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(&scope);
    mac.update(text.as_bytes());
    format!("{text}.{}", base64(&mac.finalize().into_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn token_signed(token: &[u8]) -> String {
    signed(&format!("1.{}.{}", key().id(), base64(token)), "sid", &secret())
}

fn site() -> (axum::Router, Probe) {
    let ring = KeyRing::new([key()]).unwrap();
    let store = MemoryStore::builder().clock(clock()).key_ring(ring).build().unwrap();
    let store = Probe::around(store);
    (app(store.clone()), store)
}

async fn origin(app: &axum::Router, value: &str) -> String {
    let reply = with_cookies(app, "/origin", &[format!("sid={value}").as_bytes()]).await;
    assert_eq!(reply.status, 200);
    assert!(reply.cookies().is_empty(), "{:?}", reply.cookies());
    reply.body
}

/// The value of a browser that signed in.
async fn signed_in(app: &axum::Router) -> (Browser, String) {
    let mut browser = Browser::new(app);
    browser.get("/login").await;
    let value = browser.jar.0["sid"].clone();
    (browser, value)
}

#[tokio::test]
async fn security_10_this_test_signs_as_the_layer_does() {
    let (app, _) = site();
    let (_, value) = signed_in(&app).await;
    let (text, _) = value.rsplit_once('.').unwrap();
    assert_eq!(signed(text, "sid", &secret()), value);
}

#[tokio::test]
async fn security_15_a_right_signature_makes_no_token_valid() {
    let (app, store) = site();
    let (browser, _) = signed_in(&app).await;
    let id = browser.peek("/id").await.body;
    let id: Vec<u8> =
        (0..32).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap()).collect();
    let loads = store.counts.loads();
    for len in [0, 1, 15, 16, 31, 32, 33, 35, 64, 1000] {
        assert_eq!(origin(&app, &token_signed(&vec![7; len])).await, "malformed", "{len} bytes");
    }
    assert_eq!(origin(&app, &token_signed(&[0; 34])).await, "malformed");
    assert_eq!(origin(&app, &token_signed(&id)).await, "malformed", "a stored ID");
    assert_eq!(store.counts.loads(), loads, "what has no form costs no load");
    let padded = [&id[..], &[0, 0]].concat();
    assert_eq!(origin(&app, &token_signed(&padded)).await, "not_found", "an ID filled up");
    assert_eq!(origin(&app, &token_signed(&[7; 34])).await, "not_found", "an unknown token");
    let unknown = token_signed(&[8; 34]);
    let reply = with_cookies(&app, "/login", &[format!("sid={unknown}").as_bytes()]).await;
    let fresh = reply.cookie().split(';').next().unwrap().trim_start_matches("sid=").to_owned();
    assert_ne!(fresh.split('.').nth(2), unknown.split('.').nth(2), "a token was adopted");
}

#[tokio::test]
async fn security_10_another_form_is_refused_whoever_signed_it() {
    let (app, store) = site();
    let (_, value) = signed_in(&app).await;
    let parts: Vec<_> = value.split('.').collect();
    let (kid, token) = (parts[1], parts[2]);
    let loads = store.counts.loads();
    let by = |text: String| signed(&text, "sid", &secret());
    let respelt = {
        // The last character of a token has four bits that mean nothing.
        let (rest, last) = token.split_at(token.len() - 1);
        let last = BASE64_URL_SAFE_NO_PAD.decode(format!("AA{last}A")).unwrap()[1];
        let next = base64(&[0, last.wrapping_add(16) | 1, 0]).chars().nth(2).unwrap();
        format!("{rest}{next}")
    };
    for text in [
        format!("0.{kid}.{token}"),
        format!("2.{kid}.{token}"),
        format!("11.{kid}.{token}"),
        format!("1.1.{kid}.{token}"),
        format!(".{kid}.{token}"),
        format!("1..{token}"),
        format!("1.{kid}."),
        format!("1{kid}.{token}"),
        format!("1.{kid}{token}"),
        format!("1.{}.{token}", kid.to_uppercase()),
        format!("1.{kid}.{token}="),
        format!("1.{kid}.{token}A"),
        format!("1.{kid}.{respelt}"),
        format!("1.{kid}.{}", token.replace(['-', '_'], "+")) + "/",
        token.to_owned(),
        String::new(),
    ] {
        let shown = text.clone();
        assert_eq!(origin(&app, &by(text)).await, "malformed", "{shown}");
    }
    let text = format!("1.{kid}.{token}");
    for (value, what) in [
        (signed(&text, "other", &secret()), "another cookie's"),
        (signed(&text, "sid", &[9; 32]), "another key's"),
        (signed(&format!("1.00000000.{token}"), "sid", &secret()), "an unknown key ID"),
        (format!("{text}.{}", base64(&[0; 32])), "all zero"),
        (format!("{text}.{}", base64(&Sha256::digest(&text))), "no key at all"),
    ] {
        assert_eq!(origin(&app, &value).await, "bad_signature", "{what}");
    }
    for len in [0, 1, 20, 31, 33, 64] {
        assert_eq!(origin(&app, &format!("{text}.{}", base64(&vec![1; len]))).await, "malformed");
    }
    assert_eq!(store.counts.loads(), loads, "a bad signature costs no load");
}

#[tokio::test]
async fn security_18_a_right_signature_revives_no_session() {
    let (app, store) = site();
    let clock = store.clock();
    let (mut browser, before_renewal) = signed_in(&app).await;
    browser.get("/renew").await;
    assert_eq!(origin(&app, &before_renewal).await, "superseded");
    clock.advance(2 * MINUTE);
    assert_eq!(origin(&app, &before_renewal).await, "not_found", "its mark has gone");
    let copy = browser.jar.0["sid"].clone();
    browser.get("/logout").await;
    assert_eq!(origin(&app, &copy).await, "ended");
    let (_, of_alice) = signed_in(&app).await;
    store.inner.expire(Selector::user("alice")).await.unwrap();
    assert_eq!(origin(&app, &of_alice).await, "ended");
    let (_, of_everyone) = signed_in(&app).await;
    store.inner.expire(Selector::everyone()).await.unwrap();
    assert_eq!(origin(&app, &of_everyone).await, "ended");
    let (_, idle) = signed_in(&app).await;
    clock.advance(Timeouts::default().idle);
    assert_eq!(origin(&app, &idle).await, "expired");
    let (active, absolute) = signed_in(&app).await;
    for _ in 0..60 {
        clock.advance(Timeouts::default().idle / 2);
        active.peek("/user").await;
    }
    assert_eq!(origin(&app, &absolute).await, "expired");
    for value in [before_renewal, copy, of_alice, of_everyone, idle, absolute] {
        let reply = with_cookies(&app, "/user", &[format!("sid={value}").as_bytes()]).await;
        assert_eq!(reply.body, "");
    }
}

#[tokio::test]
async fn security_14_a_removed_keys_value_is_refused_and_a_retiring_keys_is_signed_anew() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let (browser, value) = signed_in(&app).await;
    let former = store.inner.keys(fastsession::store::Freshness::Current).await.unwrap();
    let rotate = KeyChange::Rotate { at: store.clock().now(), retire_after: Some(10 * MINUTE) };
    store.change_keys(rotate).await.unwrap();
    let reply = browser.peek("/user").await;
    assert_eq!(reply.body, "alice");
    assert_ne!(reply.cookie().split('.').nth(1), value.split('.').nth(1), "signed by the new key");
    store.change_keys(KeyChange::Retire { key: former.active().id() }).await.unwrap();
    assert_eq!(origin(&app, &value).await, "bad_signature");
}

#[tokio::test]
async fn security_08_a_thousand_parallel_requests_with_one_cookie_load() {
    let (app, store) = site();
    store.counts.slow.store(true, Ordering::SeqCst);
    let (browser, _) = signed_in(&app).await;
    let requests: Vec<_> = (0..1000)
        .map(|_| {
            let browser = browser.clone();
            tokio::spawn(async move { browser.peek("/user").await })
        })
        .collect();
    for request in requests {
        let reply = request.await.unwrap();
        assert_eq!((reply.body.as_str(), reply.cookies().len()), ("alice", 0));
    }
}

#[tokio::test]
async fn security_18_a_copied_cookie_is_dead_after_logout_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || fastsession::RedbStore::open(dir.path().join("sessions.redb")).unwrap();
    let store = open();
    let first = app(store.clone());
    let (mut browser, _) = signed_in(&first).await;
    let kept = testing::signed_in::<(), _>(&store, &CookieOptions::insecure_http(), "bob").await;
    let copy = browser.clone();
    browser.get("/logout").await;
    assert_eq!(copy.peek("/origin").await.body, "ended");
    store.close().await.unwrap();
    let second = axum::Router::new().merge(crate::routes()).layer(layer(open()));
    let thief = Browser { app: second.clone(), jar: copy.jar };
    assert_eq!(thief.peek("/user").await.body, "");
    assert_eq!(thief.peek("/origin").await.body, "ended");
    let reply = with_cookies(&second, "/user", &[kept.unwrap().cookie.as_bytes()]).await;
    assert_eq!(reply.body, "bob", "the others outlive the restart");
}
