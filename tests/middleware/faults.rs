//! Failing stores, bounds, and layers beside each other: rules 17 and 19.

use super::*;

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

#[tokio::test]
async fn rule_11_a_name_shared_by_two_realms_reaches_into_neither() {
    let store = memory(&clock());
    let cap = SessionCap::end_oldest(1);
    let admin_cookie = CookieOptions::insecure_http().to_builder().name("adm").build().unwrap();
    let admin_login = async |session: Session<Admin>| session.login("root").await;
    let admin_user =
        async |session: Session<Admin>| session.user().await.map(|user| format!("{user:?}"));
    let visitor_login = async |session: Session| session.login("root").await;
    let siblings = async |session: Session| {
        session.siblings().await.map(|siblings| siblings.len().to_string())
    };
    let others = async |session: Session| session.destroy_others().await.map(drop);
    let app = routes()
        .route("/admin-login", get(admin_login))
        .route("/admin-user", get(admin_user))
        .route("/visitor-login", get(visitor_login))
        .route("/visitor-siblings", get(siblings))
        .route("/visitor-others", get(others))
        .layer(
            SessionLayer::<_, Admin>::for_realm(store.clone())
                .with_cookie(admin_cookie)
                .with_session_cap(cap),
        )
        .layer(layer(store.clone()).with_session_cap(cap));
    let (mut staff, mut visitor) = (Browser::new(&app), Browser::new(&app));
    staff.get("/admin-login").await;
    visitor.get("/visitor-login").await;
    assert_eq!(staff.get("/admin-user").await.body, r#"Some("root")"#, "ended by another's cap");
    assert_eq!(visitor.get("/visitor-siblings").await.body, "0");
    assert_eq!(visitor.get("/visitor-others").await.status, 200);
    assert_eq!(staff.get("/admin-user").await.body, r#"Some("root")"#, "ended by a namesake");
    assert_eq!(store.sessions_of("root").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_token_that_meets_an_existing_session_is_replaced_by_another() {
    let store = Probe::new(&clock());
    let app = app(store.clone());
    for path in ["/set", "/count", "/login", "/renew"] {
        let mut browser = Browser::new(&app);
        if path == "/renew" {
            browser.get("/login").await;
        }
        store.counts.collisions.store(2, Ordering::SeqCst);
        let reply = browser.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        reply.cookie();
        assert_eq!(browser.get("/origin").await.body, "restored");
    }
    store.counts.collisions.store(10, Ordering::SeqCst);
    let reply = Browser::new(&app).get("/set").await;
    assert_eq!(reply.status, 503);
    assert_silent(&reply);
}

#[tokio::test]
async fn rule_18_the_visitor_of_a_corrupt_record_starts_fresh() {
    let store = Probe::new(&clock());
    let mut browser = Browser::new(&app(store.clone()));
    browser.get("/login").await;
    store.counts.corrupt.store(true, Ordering::SeqCst);
    assert_eq!(browser.get("/origin").await.body, "corrupt");
    assert_silent(&browser.get("/user").await);
    browser.get("/set").await.cookie();
    store.counts.corrupt.store(false, Ordering::SeqCst);
    assert_eq!(browser.get("/get").await.body, "v");
    assert_eq!(live(&store.inner).await, 2);
}
