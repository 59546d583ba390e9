//! What attackers may try, and which test holds which requirement of `SECURITY.md`.
//!
//! `FASTSESSION_FLOOD` sets how many requests, sessions and records the floods are made of.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]
#![allow(clippy::print_stdout, reason = "figures of the floods")]
#![allow(dead_code, reason = "shared with the tests of the layer")]

#[path = "../middleware/support.rs"]
mod support;

mod debug;
mod elsewhere;
mod floods;
mod keys;
mod leaks;
mod logs;
mod requirements;
mod signed;
mod suite;
mod sweeping;
mod wire;

use axum::Router;
use axum::routing::get;
use fastsession::{Origin, Session, SessionStore};

/// How many of what a flood is made of.
fn flood(unless_set: usize) -> usize {
    let set = std::env::var("FASTSESSION_FLOOD").ok().and_then(|count| count.parse().ok());
    set.unwrap_or(unless_set)
}

fn routes() -> Router {
    Router::new()
        .route("/plain", get(async || "plain"))
        .route("/set", get(async |session: Session| session.insert("k", "v").await))
        .route("/user", get(async |s: Session| s.user().await.map(Option::unwrap_or_default)))
        .route("/origin", get(async |s: Session| s.origin().await.map(Origin::as_str)))
        .route("/login", get(async |session: Session| session.login("alice").await))
        .route("/renew", get(async |session: Session| session.renew().await))
        .route("/logout", get(async |session: Session| session.destroy().await))
        .route("/id", get(async |s: Session| s.id().await.map(|id| id.unwrap().to_string())))
}

fn app(store: impl SessionStore) -> Router {
    routes().layer(support::layer(store))
}

#[test]
fn security_17_presets_are_those_of_the_assurance_levels() {
    use fastsession::Timeouts;
    const HOUR: u64 = 3600;
    let seconds = |timeouts: Timeouts| (timeouts.idle.as_secs(), timeouts.absolute.as_secs());
    assert_eq!(seconds(Timeouts::AAL1), (30 * 24 * HOUR, 30 * 24 * HOUR));
    assert_eq!(seconds(Timeouts::AAL2), (HOUR, 24 * HOUR));
    assert_eq!(seconds(Timeouts::AAL3), (HOUR / 4, 12 * HOUR));
}

/// Each preset, held by a layer: idle time ends a session, activity never extends the absolute
/// deadline.
#[tokio::test]
async fn security_17_presets_end_sessions_when_they_say() {
    use fastsession::{CookieOptions, SessionLayer, Timeouts};
    use std::time::Duration;
    const MILLI: Duration = Duration::from_millis(1);
    for timeouts in [Timeouts::AAL1, Timeouts::AAL2, Timeouts::AAL3] {
        let clock = support::clock();
        let cookie = CookieOptions::insecure_http();
        let layer =
            SessionLayer::new(support::memory(&clock)).with_cookie(cookie).with_timeouts(timeouts);
        let app = routes().layer(layer);
        let mut idle = support::Browser::new(&app);
        let mut active = idle.clone();
        idle.get("/login").await;
        active.get("/login").await;
        let began = clock.now();
        let half = timeouts.idle / 2;
        while clock.now().saturating_since(began) + half < timeouts.absolute {
            clock.advance(half);
            assert_eq!(active.get("/user").await.body, "alice");
        }
        clock.set(began.saturating_add(timeouts.absolute).saturating_sub(MILLI));
        assert_eq!(active.get("/user").await.body, "alice");
        clock.advance(MILLI);
        assert_eq!(active.get("/origin").await.body, "expired");

        clock.set(began.saturating_add(timeouts.idle).saturating_sub(MILLI));
        assert_eq!(idle.peek("/plain").await.body, "plain");
        clock.advance(MILLI);
        assert_eq!(idle.peek("/origin").await.body, "expired");
    }
}

#[tokio::test]
async fn security_01_tokens_differ_in_every_bit() {
    const COUNT: u32 = 1000;
    let store = support::memory(&support::clock());
    let app = app(store);
    let mut seen = std::collections::BTreeSet::new();
    let mut ones = [0_u32; 34 * 8];
    for _ in 0..COUNT {
        let mut browser = support::Browser::new(&app);
        browser.get("/set").await;
        let value = browser.jar.0["sid"].clone();
        let token = value.split('.').nth(2).unwrap();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, token);
        let bytes = bytes.unwrap();
        assert_eq!(bytes.len(), 34, "2 shard bytes and 256 random bits");
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += u32::from(bytes[bit / 8] >> (bit % 8) & 1);
        }
        assert!(seen.insert(bytes), "a token came twice");
    }
    // Eight standard deviations: once in 10^12 runs.
    assert!(ones.iter().all(|ones| ones.abs_diff(COUNT / 2) < 127), "{ones:?}");
}
