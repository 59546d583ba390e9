//! The layer's rules, through a real router.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fastsession::{
    CookieOptions, Filter, MemoryStore, Origin, Realm, Result, Selector, Session, SessionCap,
    SessionLayer, SessionStore, Timeouts,
};
use support::{Browser, MINUTE, Probe, Reply, clock, layer, memory, with_cookies};

/// Routes that most tests need.
fn routes() -> Router {
    Router::new()
        .route("/", get(async || "untouched"))
        .route("/count", get(count))
        .route("/set", get(async |session: Session| session.insert("k", "v").await))
        .route(
            "/get",
            get(async |s: Session| s.get::<String>("k").await.map(Option::unwrap_or_default)),
        )
        .route("/user", get(async |s: Session| s.user().await.map(Option::unwrap_or_default)))
        .route("/origin", get(async |s: Session| s.origin().await.map(Origin::as_str)))
        .route("/login", get(async |session: Session| session.login("alice").await))
        .route("/login/bob", get(async |session: Session| session.login("bob").await))
        .route("/renew", get(async |session: Session| session.renew().await))
        .route("/logout", get(async |session: Session| session.destroy().await))
}

async fn count(session: Session) -> Result<String> {
    let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(n.to_string())
}

fn app(store: impl SessionStore) -> Router {
    routes().layer(layer(store))
}

fn failed() -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn live(store: &MemoryStore) -> usize {
    let query = fastsession::store::Query {
        filter: Filter::new(),
        after: None,
        limit: 1000,
        at: store.clock().now(),
    };
    store.page(&query).await.unwrap().sessions.len()
}

#[track_caller]
fn assert_silent(reply: &Reply) {
    assert!(reply.cookies().is_empty(), "{:?}", reply.cookies());
}

#[tokio::test]
async fn rule_01_an_untouched_session_costs_nothing() {
    let store = Probe::new(&clock());
    let mut browser = Browser::new(&app(store.clone()));
    browser.get("/count").await;
    let calls = store.counts.calls();
    let reply = browser.get("/").await;
    assert_silent(&reply);
    assert!(reply.all(header::VARY).is_empty());
    assert!(reply.all(header::CACHE_CONTROL).is_empty());
    assert_eq!(store.counts.calls(), calls);
}

#[tokio::test]
async fn rule_02_a_visitor_has_nothing_until_something_is_written() {
    let store = memory(&clock());
    let reads = async |session: Session| -> Result<()> {
        assert_eq!(session.get::<u8>("k").await?, None);
        assert!(!session.remove("k").await?);
        session.insert("k", &1).await?;
        assert!(session.remove("k").await?);
        session.clear().await?;
        session.renew().await?;
        session.save().await?;
        assert!(session.id().await?.is_none());
        assert!(session.is_empty().await?);
        Ok(())
    };
    let app = routes().route("/reads", get(reads)).layer(layer(store.clone()));
    let reply = Browser::new(&app).get("/reads").await;
    assert_eq!(reply.status, 200);
    assert_silent(&reply);
    assert_eq!(reply.all(header::VARY), ["cookie"]);
    assert_eq!(live(&store).await, 0);
}

#[tokio::test]
async fn rule_02_create_always_gives_every_visitor_a_session() {
    let store = memory(&clock());
    let app = routes()
        .route("/fail", get(async || failed()))
        .layer(layer(store.clone()).create_always(true));
    let mut browser = Browser::new(&app);
    assert_silent(&browser.get("/fail").await);
    browser.get("/").await.cookie();
    assert_eq!(live(&store).await, 1);
    assert_silent(&browser.get("/").await);
    assert_eq!(live(&store).await, 1);
}

#[tokio::test]
async fn rule_03_a_first_write_sets_the_cookie_with_the_headers_that_belong_to_it() {
    let mut browser = Browser::new(&app(memory(&clock())));
    let reply = browser.get("/set").await;
    let cookie = reply.cookie();
    assert!(cookie.ends_with("; Path=/; SameSite=Lax; HttpOnly"), "{cookie}");
    assert_eq!(reply.all(header::VARY), ["cookie"]);
    assert_eq!(reply.all(header::CACHE_CONTROL), ["no-store"]);
    let reply = browser.get("/get").await;
    assert_eq!(reply.body, "v");
    assert_silent(&reply);
    assert_eq!(reply.all(header::VARY), ["cookie"]);
}

#[tokio::test]
async fn rule_03_the_applications_headers_are_left_alone() {
    let handler = async |session: Session| {
        session.insert("k", "v").await.unwrap();
        (
            [
                (header::SET_COOKIE, "theme=dark"),
                (header::VARY, "accept, COOKIE"),
                (header::CACHE_CONTROL, "private"),
            ],
            "done",
        )
    };
    let app = Router::new().route("/", get(handler)).layer(layer(memory(&clock())));
    let reply = Browser::new(&app).get("/").await;
    assert_eq!(reply.cookies().len(), 2);
    assert_eq!(reply.cookies()[0], "theme=dark");
    assert_eq!(reply.all(header::VARY), ["accept, COOKIE"]);
    assert_eq!(reply.all(header::CACHE_CONTROL), ["private"]);
}

#[tokio::test]
async fn rule_03_a_saved_session_gets_its_cookie_on_a_5xx() {
    let saved = async |session: Session| {
        session.insert("k", "v").await.unwrap();
        session.save().await.unwrap();
        session.insert("k", "dropped").await.unwrap();
        failed()
    };
    let updated = async |session: Session| {
        count(session).await.unwrap();
        failed()
    };
    let app = routes()
        .route("/saved", get(saved))
        .route("/updated", get(updated))
        .layer(layer(memory(&clock())));
    let mut browser = Browser::new(&app);
    browser.get("/saved").await.cookie();
    assert_eq!(browser.get("/get").await.body, "v");
    let mut browser = Browser::new(&app);
    browser.get("/updated").await.cookie();
    assert_eq!(browser.get("/count").await.body, "2");
}

#[tokio::test]
async fn rule_03_after_the_head_only_an_existing_session_can_be_saved() {
    let store = memory(&clock());
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let handler = async move |session: Session| {
        if session.origin().await.unwrap() == Origin::Restored {
            session.get::<u8>("n").await.unwrap();
        }
        sender.send(session).await.unwrap();
    };
    let app = routes().route("/keep", get(handler)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/keep").await;
    let late = receiver.recv().await.unwrap();
    assert!(late.insert("k", "v").await.unwrap_err().is_too_late());
    assert!(late.login("alice").await.unwrap_err().is_too_late());
    assert!(late.update("n", |n: Option<u8>| n.unwrap_or(0)).await.unwrap_err().is_too_late());
    late.renew().await.unwrap_err();
    assert_eq!(live(&store).await, 0);

    browser.get("/count").await;
    browser.get("/keep").await;
    let late = receiver.recv().await.unwrap();
    late.insert("k", "late").await.unwrap();
    late.save().await.unwrap();
    assert_eq!(late.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap(), 2);
    assert!(late.renew().await.unwrap_err().is_too_late());
    assert!(late.login("alice").await.unwrap_err().is_too_late());
    assert_eq!(browser.get("/get").await.body, "late");
    late.destroy().await.unwrap();
    assert_eq!(browser.get("/origin").await.body, "ended");
}

#[tokio::test]
async fn rule_04_update_sees_pending_inserts_and_leaves_others_pending() {
    let store = memory(&clock());
    let handler = async |session: Session| {
        session.insert("n", &10_u64).await?;
        session.insert("other", &1).await?;
        let n = session.update("n", |n: Option<u64>| n.unwrap() + 1).await?;
        assert_eq!(n, 11);
        session.remove("n").await?;
        let n = session.update("n", |n: Option<u64>| n.map_or(5, |_| 0)).await?;
        assert_eq!(n, 5);
        session.clear().await?;
        assert_eq!(session.update("n", |n: Option<u64>| n.unwrap_or(7)).await?, 7);
        session.insert("other", &2).await?;
        Ok::<_, fastsession::Error>(failed())
    };
    let keys = async |session: Session| session.keys().await.map(|keys| keys.join(","));
    let app = routes().route("/update", get(handler)).route("/keys", get(keys)).layer(layer(store));
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/update").await.status, 500);
    assert_eq!(browser.get("/keys").await.body, "n");
    assert_eq!(browser.get("/count").await.body, "8");
}

#[tokio::test]
async fn rule_05_values_are_typed_and_refused_before_they_are_lost() {
    let handler = async |session: Session| -> Result<()> {
        session.insert("text", "abc").await?;
        assert!(session.get::<u64>("text").await.unwrap_err().is_decode());
        assert!(session.take::<u64>("text").await.unwrap_err().is_decode());
        assert!(session.update("text", |n: Option<u64>| n.unwrap()).await.unwrap_err().is_decode());
        assert_eq!(session.get::<String>("text").await?.as_deref(), Some("abc"));
        assert!(session.insert("text", &Some(())).await.unwrap_err().is_encode());
        assert!(session.insert("text", &vec![0_u8; 70_000]).await.unwrap_err().is_too_large());
        assert!(session.insert(&"k".repeat(257), &1).await.unwrap_err().is_too_large());
        assert_eq!(session.get_or_default::<u8>("none").await?, 0);
        assert_eq!(session.get_or_insert_with("made", || 3).await?, 3);
        assert_eq!(session.get_or_insert_with("made", || 4).await?, 3);
        assert_eq!(session.keys().await?, ["made", "text"]);
        assert_eq!(session.take::<String>("text").await?.as_deref(), Some("abc"));
        assert!(!session.contains("text").await?);
        Ok(())
    };
    let app = Router::new().route("/", get(handler)).layer(layer(memory(&clock())));
    assert_eq!(Browser::new(&app).get("/").await.status, 200);
}

#[tokio::test]
async fn rule_06_clones_are_one_session_in_middleware_and_extractors() {
    let middleware =
        async |session: Session, request: axum::extract::Request, next: axum::middleware::Next| {
            session.insert("k", "from middleware").await.unwrap();
            let response = next.run(request).await;
            assert_eq!(session.get::<u8>("handler").await.unwrap(), Some(1));
            session.insert("after", &1).await.unwrap();
            response
        };
    let handler = async |first: Session, second: Session| {
        first.insert("handler", &1).await.unwrap();
        second.get::<String>("k").await.map(Option::unwrap_or_default)
    };
    let keys = async |session: Session| session.keys().await.map(|keys| keys.join(","));
    let app = Router::new()
        .route("/", get(handler))
        .layer(axum::middleware::from_fn(middleware))
        .route("/keys", get(keys))
        .layer(layer(memory(&clock())));
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/").await.body, "from middleware");
    assert_eq!(browser.get("/keys").await.body, "after,handler,k");
}

#[tokio::test]
async fn rule_06_a_session_by_id_serves_background_jobs() {
    let store = memory(&clock());
    let app = routes()
        .route("/id", get(async |s: Session| s.id().await.map(|id| id.unwrap().to_string())))
        .layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    let id = browser.get("/id").await.body.parse().unwrap();
    let job = Session::by_id(&store, id).await.unwrap();
    assert_eq!(job.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap(), 2);
    job.insert("k", "job").await.unwrap();
    job.save().await.unwrap();
    assert_eq!(browser.get("/get").await.body, "job");
    assert!(job.renew().await.unwrap_err().is_too_late());
    assert!(job.login("alice").await.unwrap_err().is_too_late());
    browser.get("/logout").await;
    job.insert("k", "again").await.unwrap();
    assert!(job.save().await.unwrap_err().is_gone());
    assert!(Session::by_id(&store, id).await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn rule_06_ended_resolves_within_a_second_of_the_end() {
    let store = memory(&clock());
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let socket = async move |session: Session| {
        session.user().await.unwrap();
        sender.send(session).await.unwrap();
    };
    let app = routes().route("/socket", get(socket)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    browser.get("/socket").await;
    let session = receiver.recv().await.unwrap();
    let mut ended = tokio::spawn(async move { session.ended().await });
    browser.get("/renew").await;
    tokio::time::timeout(3 * MINUTE, &mut ended).await.unwrap_err();
    store.expire(Selector::user("alice")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), ended).await.unwrap().unwrap();

    Browser::new(&app).get("/socket").await;
    receiver.recv().await.unwrap().ended().await;
}

#[tokio::test]
async fn rule_07_logout_is_durable_and_its_handle_is_a_new_visitor() {
    let store = memory(&clock());
    let goodbye = async |session: Session| -> Result<()> {
        session.destroy().await?;
        assert_eq!(session.user().await?, None);
        session.insert("k", "signed out").await
    };
    let app = routes().route("/goodbye", get(goodbye)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    let thief = browser.clone();
    let reply = browser.get("/logout").await;
    assert_eq!(
        reply.cookie(),
        "sid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; SameSite=Lax; HttpOnly"
    );
    assert!(browser.jar.0.is_empty());
    assert_eq!(thief.peek("/user").await.body, "");
    assert_eq!(thief.peek("/origin").await.body, "ended");

    browser.get("/login").await;
    let reply = browser.get("/goodbye").await;
    assert!(!reply.cookie().contains("Max-Age=0"));
    assert_eq!(browser.get("/get").await.body, "signed out");
    assert_eq!(browser.get("/user").await.body, "");
}

#[tokio::test]
async fn rule_07_a_late_save_is_gone_and_an_implicit_one_is_dropped() {
    let clock = clock();
    let store = memory(&clock);
    let explicit = {
        let store = store.clone();
        async move |session: Session| {
            session.insert("k", "late").await?;
            store.expire(Selector::everyone()).await?;
            assert!(session.save().await.unwrap_err().is_gone());
            assert!(
                session.update("n", |n: Option<u8>| n.unwrap_or(0)).await.unwrap_err().is_gone()
            );
            assert!(session.renew().await.unwrap_err().is_gone());
            session.insert("k", "dropped").await
        }
    };
    let implicit = {
        let store = store.clone();
        async move |session: Session| {
            session.insert("k", "late").await?;
            store.expire(Selector::everyone()).await.map(drop)
        }
    };
    let renewing = {
        let store = store.clone();
        async move |session: Session| {
            session.renew().await?;
            store.expire(Selector::everyone()).await.map(drop)
        }
    };
    let app = routes()
        .route("/explicit", get(explicit))
        .route("/implicit", get(implicit))
        .route("/renewing", get(renewing))
        .layer(layer(store.clone()));
    for (path, status) in [("/explicit", 200), ("/implicit", 200), ("/renewing", 409)] {
        let mut browser = Browser::new(&app);
        browser.get("/login").await;
        let reply = browser.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert_silent(&reply);
        assert_eq!(browser.get("/user").await.body, "");
        assert_eq!(live(&store).await, 0);
    }
}

#[tokio::test]
async fn rule_08_login_renews_binds_and_keeps_what_the_visitor_had() {
    let store = memory(&clock());
    let mut browser = Browser::new(&app(store.clone()));
    browser.get("/set").await;
    let old = browser.clone();
    browser.get("/login").await.cookie();
    assert_ne!(old.jar.0, browser.jar.0);
    assert_eq!(browser.get("/user").await.body, "alice");
    assert_eq!(browser.get("/get").await.body, "v");
    assert_eq!(old.peek("/get").await.body, "");
    assert_eq!(old.peek("/origin").await.body, "superseded");
    assert_eq!(live(&store).await, 1);
    browser.get("/login/bob").await.cookie();
    assert_eq!(browser.get("/user").await.body, "bob");
    assert_eq!(browser.get("/get").await.body, "");
}

#[tokio::test]
async fn rule_08_another_users_values_are_dropped_before_the_commit_too() {
    let switch = async |session: Session| -> Result<()> {
        session.insert("secret", "alice's").await?;
        session.set_label("alice's phone").await?;
        session.login("bob").await?;
        assert_eq!(session.user().await?.as_deref(), Some("bob"));
        assert!(session.is_empty().await?);
        assert_eq!(session.label().await?, None);
        session.insert("own", "bob's").await
    };
    let keys = async |session: Session| session.keys().await.map(|keys| keys.join(","));
    let app = routes()
        .route("/switch", get(switch))
        .route("/keys", get(keys))
        .layer(layer(memory(&clock())));
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    browser.get("/set").await;
    browser.get("/switch").await;
    assert_eq!(browser.get("/keys").await.body, "own");
}

#[tokio::test]
async fn rule_08_a_login_commits_on_a_5xx_and_not_on_a_panic_or_hang_up() {
    let store = memory(&clock());
    let fail = async |session: Session| {
        session.insert("k", "v").await.unwrap();
        session.login("alice").await.unwrap();
        failed()
    };
    let hang = async |session: Session| {
        session.login("mallory").await.unwrap();
        std::future::pending::<()>().await;
    };
    let panics = async |session: Session| {
        session.login("mallory").await.unwrap();
        assert!(session.user().await.unwrap().is_none(), "on purpose");
    };
    let app = routes()
        .route("/fail", get(fail))
        .route("/hang", get(hang))
        .route("/panic", get(panics))
        .layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/fail").await.status, 500);
    assert_eq!(browser.get("/user").await.body, "alice");
    assert_eq!(browser.get("/get").await.body, "v");
    let (hanging, panicking) = (browser.clone(), browser.clone());
    let timeout = tokio::time::timeout(Duration::from_millis(20), hanging.peek("/hang")).await;
    assert!(timeout.is_err());
    assert!(tokio::spawn(async move { panicking.peek("/panic").await }).await.is_err());
    assert_eq!(browser.get("/user").await.body, "alice");
    assert_eq!(live(&store).await, 1);
}

#[tokio::test]
async fn rule_08_a_superseded_request_sees_no_session_and_sets_no_cookie() {
    let store = memory(&clock());
    let explicit = async |session: Session| -> Result<()> {
        assert_eq!(session.get::<String>("k").await?, None);
        session.insert("k", "late").await?;
        assert!(session.save().await.unwrap_err().is_superseded());
        assert!(
            session.update("k", |v: Option<u8>| v.unwrap_or(0)).await.unwrap_err().is_superseded()
        );
        assert!(session.renew().await.unwrap_err().is_superseded());
        Ok(())
    };
    let app = routes().route("/explicit", get(explicit)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    let mut old = browser.clone();
    browser.get("/login").await;
    for path in ["/set", "/explicit", "/get", "/"] {
        let reply = old.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_silent(&reply);
    }
    for path in ["/renew", "/logout", "/count"] {
        let reply = old.get(path).await;
        assert_eq!(reply.status, 409, "{path}");
        assert_silent(&reply);
    }
    assert_eq!(live(&store).await, 1);
    old.get("/login/bob").await.cookie();
    assert_eq!(old.get("/user").await.body, "bob");
    assert_eq!(browser.get("/user").await.body, "alice");

    // A destroyed session leaves the same mark.
    let mut late = browser.clone();
    browser.get("/logout").await;
    for path in ["/set", "/explicit", "/logout"] {
        let reply = late.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_silent(&reply);
    }
}

#[tokio::test]
async fn rule_08_the_mark_lasts_a_bounded_grace() {
    let clock = clock();
    let mut browser = Browser::new(&app(memory(&clock)));
    browser.get("/set").await;
    let mut old = browser.clone();
    browser.get("/login").await;
    clock.advance(MINUTE);
    assert_eq!(old.get("/origin").await.body, "not_found");
    old.get("/set").await.cookie();
}

#[tokio::test]
async fn rule_08_an_unknown_outcome_is_recognised_as_success_by_the_next_try() {
    let store = Probe::new(&clock());
    let handler = {
        let counts = store.counts.clone();
        async move |session: Session| -> Result<()> {
            session.login("alice").await?;
            counts.forgetful.store(true, Ordering::SeqCst);
            assert!(session.save().await.unwrap_err().is_unknown_outcome());
            Ok(())
        }
    };
    let app = routes().route("/retry", get(handler)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    browser.get("/retry").await.cookie();
    assert_eq!(browser.get("/user").await.body, "alice");
    assert_eq!(browser.get("/get").await.body, "v");
    assert_eq!(live(&store.inner).await, 1);
}

#[tokio::test]
async fn rule_09_plain_changes_are_dropped_on_a_5xx() {
    let handler = async |session: Session| {
        session.insert("k", "dropped").await.unwrap();
        failed()
    };
    let app = routes().route("/fail", get(handler)).layer(layer(memory(&clock())));
    let mut browser = Browser::new(&app);
    assert_silent(&browser.get("/fail").await);
    browser.get("/set").await;
    assert_silent(&browser.get("/fail").await);
    assert_eq!(browser.get("/get").await.body, "v");
}

#[tokio::test]
async fn rule_10_an_unknown_token_is_never_adopted() {
    let (ours, theirs) = (memory(&clock()), memory(&clock()));
    let ring = theirs.keys(fastsession::store::Freshness::Current).await.unwrap();
    let ours_with_ring = MemoryStore::builder().clock(clock()).key_ring(ring).build().unwrap();
    drop(ours);
    let mut victim = Browser::new(&app(theirs));
    victim.get("/set").await;
    let fixed = victim.jar.clone();
    victim.app = app(ours_with_ring.clone());
    assert_eq!(victim.get("/origin").await.body, "not_found");
    victim.get("/set").await.cookie();
    assert_ne!(victim.jar.0, fixed.0);
    assert_eq!(live(&ours_with_ring).await, 1);
}

#[tokio::test]
async fn rule_11_others_are_ended_and_listed() {
    let store = memory(&clock());
    let others = async |session: Session| -> Result<String> {
        session.destroy_others().await.map(|expired| format!("{:?}", expired.ended))
    };
    let siblings = async |session: Session| -> Result<String> {
        session.siblings().await.map(|others| others.len().to_string())
    };
    let change = async |session: Session| -> Result<()> {
        session.renew().await?;
        session.destroy_others().await.map(drop)
    };
    let app = routes()
        .route("/others", get(others))
        .route("/siblings", get(siblings))
        .route("/change", get(change))
        .layer(layer(store.clone()));
    let [mut phone, mut laptop, mut stranger] = std::array::from_fn(|_| Browser::new(&app));
    phone.get("/login").await;
    laptop.get("/login").await;
    stranger.get("/login/bob").await;
    assert_eq!(phone.get("/siblings").await.body, "1");
    assert_eq!(phone.get("/others").await.body, "Some(1)");
    assert_eq!(laptop.get("/origin").await.body, "ended");
    laptop.get("/login").await.cookie();
    phone.get("/change").await.cookie();
    assert_eq!(phone.get("/user").await.body, "alice");
    assert_eq!(phone.get("/siblings").await.body, "0");
    assert_eq!(laptop.get("/user").await.body, "");
    assert_eq!(stranger.get("/user").await.body, "bob");
    assert_eq!(Browser::new(&app).get("/siblings").await.body, "0");
}

#[tokio::test]
async fn rule_11_a_cap_refuses_or_ends_the_oldest() {
    let clock = clock();
    let refusing =
        routes().layer(layer(memory(&clock)).with_session_cap(SessionCap::refuse_new(1)));
    let (mut first, mut second) = (Browser::new(&refusing), Browser::new(&refusing));
    first.get("/login").await;
    let reply = second.get("/login").await;
    assert_eq!(reply.status, 409);
    assert_silent(&reply);
    first.get("/login").await.cookie();
    assert_eq!(first.get("/user").await.body, "alice");

    let ending = routes().layer(layer(memory(&clock)).with_session_cap(SessionCap::end_oldest(1)));
    let (mut first, mut second) = (Browser::new(&ending), Browser::new(&ending));
    first.get("/login").await;
    clock.advance(MINUTE);
    second.get("/login").await;
    assert_eq!(first.get("/origin").await.body, "ended");
    assert_eq!(second.get("/user").await.body, "alice");
}

#[tokio::test]
async fn rule_13_timeouts_are_enforced_on_load() {
    let clock = clock();
    let timeouts = Timeouts::new(10 * MINUTE, 60 * MINUTE);
    let app = routes().layer(layer(memory(&clock)).with_timeouts(timeouts));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    for _ in 0..6 {
        clock.advance(9 * MINUTE);
        assert_eq!(browser.get("/get").await.body, "v");
    }
    let mut idle = browser.clone();
    clock.advance(6 * MINUTE);
    assert_eq!(browser.get("/origin").await.body, "expired");
    idle.get("/set").await.cookie();
    clock.advance(10 * MINUTE);
    assert_eq!(idle.get("/origin").await.body, "expired");
}

#[tokio::test]
async fn rule_13_remember_makes_the_cookie_persistent_for_as_long_as_the_session() {
    let clock = clock();
    let remember = async |session: Session| session.remember(Timeouts::AAL1).await;
    let both = async |session: Session| -> Result<()> {
        session.login("alice").await?;
        session.remember(Timeouts::AAL1).await
    };
    let app = routes()
        .route("/remember", get(remember))
        .route("/both", get(both))
        .layer(layer(memory(&clock)));
    let mut browser = Browser::new(&app);
    let reply = browser.get("/both").await;
    assert!(reply.cookie().contains("; Max-Age=2592000;"), "{}", reply.cookie());
    clock.advance(48 * 60 * MINUTE);
    assert_eq!(browser.get("/user").await.body, "alice");
    let reply = browser.get("/renew").await;
    assert!(reply.cookie().contains("; Max-Age=2419200;"), "{}", reply.cookie());
    let mut browser = Browser::new(&app);
    assert!(!browser.get("/login").await.cookie().contains("Max-Age"));
    let before = browser.jar.clone();
    let reply = browser.get("/remember").await;
    assert!(reply.cookie().contains("; Max-Age=2592000;"), "{}", reply.cookie());
    assert_eq!(browser.jar.0, before.0);
}

#[tokio::test]
async fn rule_13_a_persistent_cookie_is_kept_until_the_absolute_deadline() {
    let cookie = CookieOptions::insecure_http().to_builder().persistent(true).build().unwrap();
    let app = routes().layer(layer(memory(&clock())).with_cookie(cookie));
    let reply = Browser::new(&app).get("/set").await;
    assert!(reply.cookie().contains("; Max-Age=2592000;"), "{}", reply.cookie());
}

#[tokio::test]
async fn rule_14_activity_is_recorded_once_per_interval_and_where_it_counts() {
    let clock = clock();
    let store = Probe::new(&clock);
    let app = routes()
        .route("/poll", get(async |s: Session| s.user().await.map(drop)))
        .route("/touch", get(async |s: Session| s.touch().await))
        .layer(layer(store.clone()).touch_when(|request| request.uri.path() != "/poll"));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    clock.advance(5 * MINUTE - Duration::from_millis(1));
    browser.get("/get").await;
    assert_eq!(store.counts.touches(), 0);
    clock.advance(Duration::from_millis(1));
    browser.get("/").await;
    browser.get("/poll").await;
    assert_eq!(store.counts.touches(), 0);
    assert_silent(&browser.get("/get").await);
    browser.get("/get").await;
    assert_eq!(store.counts.touches(), 1);
    clock.advance(5 * MINUTE);
    browser.get("/set").await;
    browser.get("/touch").await;
    assert_eq!(store.counts.touches(), 1);
    clock.advance(5 * MINUTE);
    browser.get("/touch").await;
    assert_eq!(store.counts.touches(), 2);
}

#[tokio::test]
async fn rule_17_a_store_error_is_a_503_that_leaves_the_cookie_alone() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    store.counts.down.store(true, Ordering::SeqCst);
    for path in ["/get", "/set", "/logout", "/login", "/count"] {
        let reply = browser.get(path).await;
        assert_eq!(reply.status, 503, "{path}");
        assert_eq!(reply.all(header::RETRY_AFTER), ["1"]);
        assert_silent(&reply);
    }
    assert_eq!(browser.get("/").await.status, 200);
    store.counts.down.store(false, Ordering::SeqCst);
    store.counts.read_only.store(true, Ordering::SeqCst);
    for path in ["/set", "/logout", "/login", "/renew"] {
        let reply = browser.get(path).await;
        assert_eq!(reply.status, 503, "{path}");
        assert_eq!(reply.all(header::RETRY_AFTER), ["1"]);
        assert_silent(&reply);
        assert_silent(&Browser::new(&app).get("/set").await);
    }
    assert_eq!(browser.get("/get").await.body, "v");
}

#[tokio::test]
async fn rule_17_a_hook_turns_errors_into_the_applications_own_responses() {
    let store = Probe::new(&clock());
    let app = routes().layer(layer(store.clone()).on_error(|error| {
        error.is_store_failure().then(|| (StatusCode::IM_A_TEAPOT, "ours").into_response())
    }));
    store.counts.down.store(true, Ordering::SeqCst);
    let reply = with_cookies(&app, "/get", &[b"sid=x"]).await;
    assert_eq!((reply.status, &*reply.body), (StatusCode::IM_A_TEAPOT, "ours"));
    store.counts.down.store(false, Ordering::SeqCst);
    store.counts.read_only.store(true, Ordering::SeqCst);
    let reply = with_cookies(&app, "/set", &[]).await;
    assert_eq!((reply.status, &*reply.body), (StatusCode::IM_A_TEAPOT, "ours"));
}

#[tokio::test]
async fn rule_19_data_beyond_the_bound_leaves_the_old_state() {
    let handler = async |session: Session| session.insert("big", &"x".repeat(600)).await;
    let app = routes()
        .route("/big", get(handler))
        .route("/big2", get(async |s: Session| s.insert("big2", &"x".repeat(600)).await))
        .layer(layer(memory(&clock())).with_max_data_bytes(1000));
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/set").await.status, 200);
    assert_eq!(browser.get("/big").await.status, 200);
    assert_eq!(browser.get("/big2").await.status, 413);
    assert_eq!(browser.get("/get").await.body, "v");
}

#[tokio::test]
async fn the_layer_stands_aside_where_it_is_told_to() {
    let name = HeaderName::from_static("x-skip");
    let layer = layer(memory(&clock()))
        .skip_header(name.clone(), Some(HeaderValue::from_static("yes")))
        .skip_header(HeaderName::from_static("x-any"), None)
        .skip_when(|request| request.uri.path() == "/count");
    let app = routes().layer(layer);
    for (header, value, status) in
        [("x-skip", "yes", 500), ("x-skip", "no", 200), ("x-any", "", 500), ("x-other", "", 200)]
    {
        let mut request = Browser::new(&app).request("/set");
        request
            .headers_mut()
            .insert(HeaderName::from_static(header), HeaderValue::from_static(value));
        assert_eq!(support::send(&app, request).await.status, status, "{header}: {value}");
    }
    assert_eq!(Browser::new(&app).get("/count").await.status, 500);
    assert_eq!(Browser::new(&routes()).get("/set").await.status, 500);
}

struct Admin;

impl Realm for Admin {
    const NAME: &'static str = "admin";
}

#[tokio::test]
async fn two_layers_keep_their_sessions_apart() {
    let store = memory(&clock());
    let cookie =
        |name: &str| CookieOptions::insecure_http().to_builder().name(name).build().unwrap();
    let both = async |visitor: Session, admin: Session<Admin>| -> Result<()> {
        visitor.insert("k", "visitor").await?;
        admin.login("root").await
    };
    let show = async |visitor: Session, admin: Session<Admin>| -> Result<String> {
        Ok(format!("{:?} {:?}", visitor.get::<String>("k").await?, admin.user().await?))
    };
    let router = routes().route("/both", get(both)).route("/show", get(show));
    let app = router
        .clone()
        .layer(SessionLayer::<_, Admin>::for_realm(store.clone()).with_cookie(cookie("adm")))
        .layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    let reply = browser.get("/both").await;
    assert_eq!(reply.cookies().len(), 2);
    assert_eq!(reply.all(header::VARY), ["cookie"]);
    assert_eq!(browser.get("/show").await.body, r#"Some("visitor") Some("root")"#);

    // The same cookie name does not make a session of one realm one of the other.
    let same_name = router
        .layer(SessionLayer::<_, Admin>::for_realm(store.clone()).with_cookie(cookie("sid")))
        .layer(SessionLayer::new(store).with_cookie(cookie("visitor")));
    browser.app = same_name;
    assert_eq!(browser.get("/show").await.body, "None None");
}
