//! Ending, renewing and signing in: rules 6 to 11.

use super::*;

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

    browser.get("/login").await;
    browser.get("/socket").await;
    let session = receiver.recv().await.unwrap();
    browser.get("/renew").await;
    let count = session.update("n", |n: Option<u8>| n.unwrap_or(0) + 1).await;
    assert!(count.unwrap_err().is_superseded());
    tokio::time::timeout(3 * MINUTE, session.ended()).await.unwrap_err();
    browser.get("/logout").await;
    tokio::time::timeout(Duration::from_secs(1), session.ended()).await.unwrap();
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
async fn rule_08_an_unknown_outcome_before_the_head_signs_nobody_out() {
    for signs_in in [false, true] {
        let store = Probe::new(&clock());
        let handler = {
            let counts = store.counts.clone();
            async move |session: Session| -> Result<()> {
                if signs_in {
                    session.login("alice").await?;
                } else {
                    session.renew().await?;
                }
                session.insert("late", &1).await?;
                counts.forgetful.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        let app = routes().route("/broken", get(handler)).layer(layer(store.clone()));
        let mut browser = Browser::new(&app);
        browser.get("/set").await;
        let before = browser.jar.clone();
        browser.get("/broken").await.cookie();
        assert_ne!(browser.jar.0, before.0);
        assert_eq!(browser.get("/get").await.body, "v");
        assert_eq!(live(&store.inner).await, 1);
    }
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

/// Turns a panic of the handler into an ordinary 500, within the session's layer.
async fn catch_panic(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut handling = Box::pin(next.run(request));
    std::future::poll_fn(move |context| {
        let poll = std::panic::AssertUnwindSafe(|| handling.as_mut().poll(context));
        std::panic::catch_unwind(poll).unwrap_or_else(|_| std::task::Poll::Ready(failed()))
    })
    .await
}

#[tokio::test]
async fn rule_08_a_panic_that_is_caught_within_the_layer_commits_no_login() {
    let panics = async |session: Session| {
        session.insert("k", "dropped").await.unwrap();
        session.login("mallory").await.unwrap();
        assert!(session.user().await.unwrap().is_none(), "on purpose");
    };
    let app = routes()
        .route("/panic", get(panics))
        .layer(axum::middleware::from_fn(catch_panic))
        .layer(layer(memory(&clock())));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    let reply = browser.get("/panic").await;
    assert_eq!(reply.status, 500);
    assert_silent(&reply);
    assert_eq!(browser.get("/user").await.body, "");
    assert_eq!(browser.get("/get").await.body, "v");
}

#[tokio::test]
async fn rule_11_a_refused_login_that_was_saved_leaves_the_visitor_as_they_were() {
    let store = memory(&clock());
    let polite = async |session: Session| -> Result<&'static str> {
        session.login("alice").await?;
        session.insert("admin", &true).await?;
        match session.save().await {
            Err(error) if error.is_too_many_sessions() => Ok("too many devices"),
            other => other.map(|()| "welcome"),
        }
    };
    let keys = async |session: Session| session.keys().await.map(|keys| keys.join(","));
    let app = routes()
        .route("/polite", get(polite))
        .route("/keys", get(keys))
        .layer(layer(store).with_session_cap(SessionCap::refuse_new(1)));
    let (mut first, mut second) = (Browser::new(&app), Browser::new(&app));
    assert_eq!(first.get("/polite").await.body, "welcome");
    second.get("/set").await;
    let reply = second.get("/polite").await;
    assert_eq!((reply.status.as_u16(), &*reply.body), (200, "too many devices"));
    assert_silent(&reply);
    assert_eq!(second.get("/keys").await.body, "k");
    assert_eq!(second.get("/user").await.body, "");
}

#[tokio::test]
async fn rule_10_a_deletion_cookie_repeats_the_attributes() {
    let cookie = CookieOptions::builder().name("__Secure-s").domain("example.org").path("/app");
    let cookie = cookie.build().unwrap();
    let store = memory(&clock());
    let alice = fastsession::testing::signed_in::<(), _>(&store, &cookie, "alice").await.unwrap();
    let app = routes().layer(SessionLayer::new(store).with_cookie(cookie));
    let renewed = with_cookies(&app, "/renew", &[alice.cookie.as_bytes()]).await;
    let value = renewed.cookies()[0].split(';').next().unwrap();
    let deleted = with_cookies(&app, "/logout", &[value.as_bytes()]).await;
    let attributes = |cookie: &str| {
        let attributes: Vec<_> = cookie.split("; ").skip(1).map(str::to_owned).collect();
        attributes
    };
    let mut repeated = attributes(deleted.cookies()[0]);
    repeated
        .retain(|attribute| !attribute.starts_with("Max-Age") && !attribute.starts_with("Expires"));
    assert_eq!(repeated, attributes(renewed.cookies()[0]));
}

#[tokio::test]
async fn rule_07_destroying_what_is_not_there_is_done() {
    let app = routes().layer(layer(memory(&clock())));
    let mut browser = Browser::new(&app);
    let reply = browser.get("/logout").await;
    assert_eq!(reply.status, 200);
    assert_silent(&reply);
    let reply = with_cookies(&app, "/logout", &[b"sid=junk"]).await;
    assert!(reply.cookie().contains("Max-Age=0"));
    let made_and_ended = async |session: Session| -> Result<()> {
        session.insert("k", "v").await?;
        session.save().await?;
        session.destroy().await
    };
    let app = Router::new().route("/", get(made_and_ended)).layer(layer(memory(&clock())));
    assert_silent(&Browser::new(&app).get("/").await);
}

#[tokio::test]
async fn rule_16_origins_and_dropped_changes_are_counted() {
    let store = memory(&clock());
    let session_layer = layer(store.clone());
    let counters = session_layer.counters();
    let ended_meanwhile = async move |session: Session| -> Result<()> {
        session.insert("k", &1).await?;
        store.expire(Selector::user("alice")).await?;
        Ok(())
    };
    let app = routes().route("/ended", get(ended_meanwhile)).layer(session_layer);
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    assert_eq!(counters.concluded(fastsession::Origin::New), 1);
    browser.get("/user").await;
    assert_eq!(counters.concluded(fastsession::Origin::Restored), 1);
    browser.get("/ended").await;
    assert_eq!((counters.concluded(fastsession::Origin::Ended), counters.dropped()), (1, 1));
    browser.get("/user").await;
    assert_eq!(counters.concluded(fastsession::Origin::Ended), 2);
    with_cookies(&app, "/user", &[b"sid=x"]).await;
    assert_eq!(counters.concluded(fastsession::Origin::Malformed), 1);
}
