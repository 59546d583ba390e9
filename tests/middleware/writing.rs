//! Reading, writing, and when the cookie leaves: rules 1 to 6.

use super::*;

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
async fn a_handle_that_lives_on_keeps_no_header_of_its_request() {
    let store = Probe::new(&clock());
    let (sender, mut handles) = tokio::sync::mpsc::unbounded_channel();
    let reader = sender.clone();
    let read = async move |session: Session| -> Result<()> {
        session.get::<u64>("n").await?;
        reader.send(session).unwrap();
        Ok(())
    };
    let write = async move |session: Session| -> Result<()> {
        session.insert("k", "v").await?;
        sender.send(session).unwrap();
        Ok(())
    };
    let app = routes().route("/read", get(read)).route("/write", get(write));
    let app = app.layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/count").await;
    for (path, slow) in [("/read", false), ("/read", true), ("/write", false), ("/write", true)] {
        store.counts.slow.store(slow, Ordering::SeqCst);
        let mut request = browser.request(path);
        let header = Bytes::copy_from_slice(request.headers()[header::COOKIE].as_bytes());
        let value = HeaderValue::from_maybe_shared(header.clone()).unwrap();
        request.headers_mut().insert(header::COOKIE, value);
        send(&app, request).await;
        let session: Session = handles.recv().await.unwrap();
        assert!(header.is_unique(), "{path}, {slow}");
        assert_eq!(session.get("n").await.unwrap(), Some(1));
    }
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

#[tokio::test]
async fn rule_05_a_value_of_any_length_is_read_before_and_after_its_commit() {
    let session: Session = fastsession::testing::session(&MemoryStore::new().unwrap());
    for len in [0, 1, 30, 31, 32, 33, 100, 5000] {
        let value = "v".repeat(len);
        session.insert("k", &value).await.unwrap();
        assert_eq!(session.get("k").await.unwrap().as_ref(), Some(&value), "{len}, pending");
        session.save().await.unwrap();
        assert_eq!(session.get("k").await.unwrap(), Some(value), "{len}, committed");
    }
    session.remove("k").await.unwrap();
    assert_eq!(session.get::<String>("k").await.unwrap(), None);
}
