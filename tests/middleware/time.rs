//! Timeouts and activity: rules 13 and 14.

use super::*;

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
    clock.advance(Duration::from_millis(299_999));
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
async fn rule_14_who_is_active_is_not_idle_however_short_the_sessions_own_timeout() {
    let clock = clock();
    let short = Timeouts::new(2 * MINUTE, 60 * MINUTE);
    let remember = async move |session: Session| session.remember(short).await;
    let layer = layer(memory(&clock));
    let configured = layer.clone().with_touch_interval(60 * MINUTE);
    for layer in [layer, configured] {
        let app = routes().route("/remember", get(remember)).layer(layer);
        let mut browser = Browser::new(&app);
        browser.get("/remember").await;
        for _ in 0..20 {
            clock.advance(MINUTE);
            assert_eq!(browser.get("/origin").await.body, "restored");
        }
        clock.advance(3 * MINUTE);
        assert_eq!(browser.get("/origin").await.body, "expired");
    }
}

#[tokio::test]
async fn rule_14_a_background_job_keeps_no_session_alive() {
    let clock = clock();
    let store = memory(&clock);
    let browse = |timeouts| {
        let id = async |s: Session| s.id().await.map(|id| id.unwrap().to_string());
        Browser::new(
            &routes()
                .route("/id", get(id))
                .layer(layer(store.clone()).with_timeouts(timeouts).with_touch_interval(MINUTE)),
        )
    };
    // The layer of today is stricter than that which made the session.
    let mut before = browse(Timeouts::new(1440 * MINUTE, 43_200 * MINUTE));
    let mut after = browse(Timeouts::new(60 * MINUTE, 43_200 * MINUTE));
    before.get("/set").await;
    after.jar = before.jar.clone();
    let id = before.get("/id").await.body.parse().unwrap();
    let job = async || -> Result<Session> {
        let session = Session::by_id(&store, id).await?;
        session.insert("k", "job").await?;
        session.save().await?;
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
        Ok(session)
    };
    for _ in 0..2 {
        clock.advance(59 * MINUTE);
        job().await.unwrap();
        assert_eq!(after.get("/get").await.body, "job");
    }
    clock.advance(59 * MINUTE);
    job().await.unwrap().touch().await.unwrap();
    clock.advance(59 * MINUTE);
    assert_eq!(after.get("/get").await.body, "job", "a job may say that there is activity");
    clock.advance(60 * MINUTE);
    job().await.unwrap();
    assert_eq!(after.peek("/origin").await.body, "expired", "the job has revived it");
    clock.advance(1379 * MINUTE);
    job().await.unwrap();
    clock.advance(MINUTE);
    assert!(job().await.unwrap_err().is_not_found());
}
