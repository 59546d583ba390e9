//! Requests that insert, and never look at what is stored.

use super::*;

/// One handler that only inserts, quick and slow stores alike.
async fn with_each_store(test: impl AsyncFn(Probe, Browser)) {
    for slow in [false, true] {
        let store = Probe::new(&clock());
        store.counts.slow.store(slow, Ordering::SeqCst);
        let browser = Browser::new(&app(store.clone()));
        test(store, browser).await;
    }
}

#[tokio::test]
async fn an_insert_alone_is_one_commit_and_no_load() {
    with_each_store(async |store, mut browser| {
        browser.get("/count").await;
        let (loads, commits) = (store.counts.loads(), store.counts.commits());
        let reply = browser.get("/set").await;
        assert_silent(&reply);
        assert_eq!((reply.all(header::VARY), reply.status.as_u16()), (vec!["cookie"], 200));
        assert_eq!((store.counts.loads(), store.counts.commits()), (loads, commits + 1));
        assert_eq!(browser.get("/get").await.body, "v");
        assert_eq!(browser.get("/count").await.body, "2", "the other keys are there");
        assert_eq!(live(&store.inner).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_failed_response_drops_an_insert_without_asking_the_store() {
    let store = Probe::new(&clock());
    let failing = async |session: Session| {
        session.insert("k", "dropped").await.unwrap();
        failed()
    };
    let app = routes().route("/failing", get(failing)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    let calls = store.counts.calls();
    assert_silent(&browser.get("/failing").await);
    assert_eq!(store.counts.calls(), calls);
    assert_eq!(browser.get("/get").await.body, "v");
}

#[tokio::test]
async fn rule_17_the_response_says_that_an_insert_was_not_committed() {
    with_each_store(async |store, mut browser| {
        browser.get("/login").await;
        store.counts.down.store(true, Ordering::SeqCst);
        let reply = browser.get("/set").await;
        assert_eq!(reply.status, 503);
        assert_silent(&reply);
        store.counts.down.store(false, Ordering::SeqCst);
        assert_eq!(browser.get("/get").await.body, "");
        assert_eq!(browser.get("/user").await.body, "alice");
    })
    .await;
}

#[tokio::test]
async fn an_insert_of_a_visitor_whose_session_is_over_starts_a_new_one() {
    with_each_store(async |store, mut browser| {
        for ending in ["expired", "ended", "purged"] {
            browser.get("/login").await;
            let before = browser.jar.0["sid"].clone();
            let clock = store.clock();
            match ending {
                "expired" => clock.advance(Timeouts::default().idle),
                _ => drop(store.inner.expire(Selector::everyone()).await.unwrap()),
            }
            clock.advance(Duration::from_millis(1));
            if ending == "purged" {
                clock.advance(48 * 60 * MINUTE);
                store.inner.purge().await.unwrap();
            }
            browser.get("/set").await.cookie();
            assert_ne!(browser.jar.0["sid"], before, "{ending}");
            assert_eq!(browser.get("/get").await.body, "v", "{ending}");
            assert_eq!(browser.get("/user").await.body, "", "{ending}");
        }
    })
    .await;
}

#[tokio::test]
async fn rule_08_an_insert_beside_a_renewal_or_logout_sets_no_cookie() {
    with_each_store(async |_, mut browser| {
        for path in ["/renew", "/logout"] {
            browser.get("/login").await;
            let late = browser.clone();
            browser.get(path).await;
            let reply = late.peek("/set").await;
            assert_eq!(reply.status, 200);
            assert_silent(&reply);
            assert_eq!(browser.get("/get").await.body, "", "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn rule_07_an_insert_from_before_an_ending_is_dropped() {
    let clock = clock();
    let store = Probe::new(&clock);
    let ending = {
        let (store, clock) = (store.clone(), clock.clone());
        async move |session: Session| {
            session.insert("k", "late").await?;
            clock.advance(Duration::from_millis(1));
            store.inner.expire(Selector::user("alice")).await.map(drop)
        }
    };
    let session_layer = layer(store.clone());
    let counters = session_layer.counters();
    let app = routes().route("/ending", get(ending)).layer(session_layer);
    for slow in [false, true] {
        store.counts.slow.store(slow, Ordering::SeqCst);
        let mut browser = Browser::new(&app);
        browser.get("/login").await;
        let dropped = counters.dropped();
        let reply = browser.get("/ending").await;
        assert_eq!((reply.status.as_u16(), counters.dropped()), (200, dropped + 1));
        assert_silent(&reply);
        assert_eq!(live(&store.inner).await, 0);
    }
}

#[tokio::test]
async fn an_insert_of_a_refused_cookie_starts_a_new_session() {
    with_each_store(async |store, mut browser| {
        browser.get("/login").await;
        let value = browser.jar.0["sid"].clone();
        let forged = format!("{}x", &value[..value.len() - 1]);
        browser.jar.0.insert("sid".into(), forged);
        browser.get("/set").await.cookie();
        assert_eq!(browser.get("/user").await.body, "");
        assert_eq!(live(&store.inner).await, 2);
    })
    .await;
}

#[tokio::test]
async fn rule_14_an_insert_does_not_put_off_signing_anew() {
    with_each_store(async |store, mut browser| {
        browser.get("/login").await;
        let at = store.clock().now();
        let retire_after = Some(60 * MINUTE);
        let rotate = fastsession::store::KeyChange::Rotate { at, retire_after };
        store.inner.change_keys(rotate).await.unwrap();
        let before = browser.jar.0["sid"].clone();
        browser.get("/set").await.cookie();
        assert_ne!(browser.jar.0["sid"], before);
        assert_eq!(browser.get("/user").await.body, "alice");
        assert_eq!(browser.get("/get").await.body, "v");
    })
    .await;
}

#[tokio::test]
async fn an_insert_never_reaches_a_session_of_another_realm() {
    struct Admin;
    impl Realm for Admin {
        const NAME: &'static str = "admin";
    }
    let store = Probe::new(&clock());
    // One name for both, as no application should have it: the signature tells them apart, too,
    // unless the scope is the same.
    let own = app(store.clone());
    let set = async |session: Session<Admin>| session.insert("k", "admin's").await;
    let admin = Router::new().route("/set", get(set)).layer(
        SessionLayer::<_, Admin>::for_realm(store.clone())
            .with_cookie(CookieOptions::insecure_http()),
    );
    let mut browser = Browser::new(&own);
    browser.get("/login").await;
    let cookie = browser.jar.header().unwrap();
    let reply = with_cookies(&admin, "/set", &[cookie.as_bytes()]).await;
    assert_eq!(reply.status, 200);
    reply.cookie();
    assert_eq!(browser.get("/get").await.body, "");
    assert_eq!(live(&store.inner).await, 2);
}

#[tokio::test]
async fn what_is_inserted_unseen_is_seen_by_whoever_looks_later() {
    let looks = async |session: Session| -> Result<String> {
        session.insert("k", "new").await?;
        session.insert("l", &2).await?;
        let kept: Option<u64> = session.get("n").await?;
        assert!(session.remove("l").await?);
        session.save().await?;
        session.insert("m", &3).await?;
        let k: Option<String> = session.get("k").await?;
        Ok(format!("{k:?} {kept:?} {:?}", session.keys().await?))
    };
    let store = Probe::new(&clock());
    let app = routes().route("/looks", get(looks)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    let reply = browser.get("/looks").await;
    assert_eq!(reply.body, r#"Some("new") Some(1) ["k", "m", "n"]"#);
    assert_eq!(browser.get("/get").await.body, "new");
}

/// Routes on `store` beside which `/slow` inserts, and then waits until `meanwhile` is done with
/// the cookie it was sent.
fn beside<F: Future<Output = ()> + Send>(
    store: &Probe,
    meanwhile: impl Fn(Browser) -> F + Clone + Send + Sync + 'static,
) -> Router {
    let others = app(store.clone());
    let slow = async move |session: Session, headers: axum::http::HeaderMap| -> Result<()> {
        session.insert("k", "late").await?;
        let cookie = headers[header::COOKIE].to_str().unwrap();
        let mut browser = Browser::new(&others);
        browser.jar.0.insert("sid".into(), cookie.strip_prefix("sid=").unwrap().into());
        meanwhile(browser).await;
        Ok(())
    };
    routes().route("/slow", get(slow)).layer(layer(store.clone()))
}

#[tokio::test]
async fn rule_08_an_insert_that_took_longer_than_the_grace_sets_no_cookie() {
    for path in ["/renew", "/login/bob", "/logout"] {
        let store = Probe::new(&clock());
        let clock = store.clock();
        let app = beside(&store, move |mut browser| {
            let clock = clock.clone();
            async move {
                browser.get(path).await;
                clock.advance(2 * MINUTE);
            }
        });
        for slow in [false, true] {
            store.counts.slow.store(slow, Ordering::SeqCst);
            let mut browser = Browser::new(&app);
            browser.get("/login").await;
            let reply = browser.get("/slow").await;
            assert_eq!(reply.status, 200, "{path}");
            assert_silent(&reply);
        }
    }
}

#[tokio::test]
async fn rule_07_an_insert_is_dropped_by_an_ending_in_the_same_millisecond() {
    let store = Probe::new(&clock());
    let ending = {
        let store = store.inner.clone();
        async move |session: Session| {
            session.insert("k", "late").await?;
            store.expire(Selector::user("alice")).await.map(drop)
        }
    };
    let app = routes().route("/ending", get(ending)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    let reply = browser.get("/ending").await;
    assert_eq!(reply.status, 200);
    assert_silent(&reply);
    assert_eq!(live(&store.inner).await, 0);
}

#[tokio::test]
async fn rule_07_a_logout_of_a_session_that_ended_meanwhile_begins_anew() {
    let clock = clock();
    let store = Probe::new(&clock);
    let logout = {
        let store = store.inner.clone();
        async move |session: Session, uri: axum::http::Uri| -> Result<()> {
            session.insert("k", "late").await?;
            clock.advance(Duration::from_millis(1));
            store.expire(Selector::user("alice")).await?;
            session.destroy().await?;
            if uri.query().is_some() {
                session.insert("flash", "You are signed out.").await?;
            }
            Ok(())
        }
    };
    let app = routes().route("/out", get(logout)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    assert!(browser.get("/out").await.cookie().contains("Max-Age=0"));
    assert!(browser.jar.0.is_empty());
    browser.get("/login").await;
    browser.get("/out?flash").await.cookie();
    assert_eq!(browser.get("/get").await.body, "", "what came before the end is lost");
    assert_eq!(live(&store.inner).await, 1);
}

#[tokio::test]
async fn an_insert_finds_its_session_whatever_has_to_be_waited_for() {
    let store = Probe::new(&clock());
    let mut browser = Browser::new(&app(store.clone()));
    browser.get("/count").await;
    store.counts.no_ring_at_hand.store(true, Ordering::SeqCst);
    assert_silent(&browser.get("/set").await);
    assert_eq!(browser.get("/get").await.body, "v");
    assert_eq!(live(&store.inner).await, 1);
    let mut other = Browser::new(&browser.app);
    other.get("/set").await.cookie();
    assert_eq!(other.get("/get").await.body, "v");
}

#[tokio::test]
async fn an_insert_of_one_of_several_cookies_finds_the_live_session() {
    with_each_store(async |store, mut browser| {
        browser.get("/login").await;
        let own = browser.jar.header().unwrap();
        let mut over = Browser::new(&browser.app);
        over.get("/login").await;
        let dead = over.jar.header().unwrap();
        over.get("/logout").await;
        for cookies in [format!("{dead}; {own}"), format!("{own}; {dead}"), format!("sid=x; {own}")]
        {
            assert_silent(&with_cookies(&browser.app, "/set", &[cookies.as_bytes()]).await);
        }
        assert_silent(
            &with_cookies(&browser.app, "/set", &[dead.as_bytes(), own.as_bytes()]).await,
        );
        assert_eq!(browser.get("/get").await.body, "v");
        assert_eq!(live(&store.inner).await, 1);
    })
    .await;
}

#[tokio::test]
async fn rule_06_an_insert_of_a_clone_is_committed_after_the_head() {
    let store = Probe::new(&clock());
    let (sender, mut handles) = tokio::sync::mpsc::unbounded_channel();
    let keep = async move |session: Session| -> Result<()> {
        session.insert("k", "early").await?;
        sender.send(session.clone()).unwrap();
        Ok(())
    };
    let app = routes().route("/keep", get(keep)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    for slow in [false, true] {
        store.counts.slow.store(slow, Ordering::SeqCst);
        assert_silent(&browser.get("/keep").await);
        assert_eq!(browser.get("/get").await.body, "early");
        let session: Session = handles.recv().await.unwrap();
        session.insert("k", "later").await.unwrap();
        session.save().await.unwrap();
        assert_eq!(browser.get("/get").await.body, "later");
    }
    assert_eq!(live(&store.inner).await, 1);
}
