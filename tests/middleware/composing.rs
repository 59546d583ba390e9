//! Responses of every kind, and layers around every kind of router.

use super::*;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Redirect;
use support::send;
use tower::ServiceExt;

async fn write(session: &Session) {
    session.insert("k", "v").await.unwrap();
}

#[tokio::test]
async fn rule_03_every_kind_of_response_carries_the_cookie() {
    let router = Router::new()
        .route(
            "/redirect",
            get(async |s: Session| {
                write(&s).await;
                Redirect::to("/elsewhere")
            }),
        )
        .route(
            "/not_modified",
            get(async |s: Session| {
                write(&s).await;
                StatusCode::NOT_MODIFIED
            }),
        )
        .route(
            "/refused",
            get(async |s: Session| {
                write(&s).await;
                StatusCode::FORBIDDEN
            }),
        )
        .route("/head", get(async |s: Session| write(&s).await))
        .fallback(async |s: Session| {
            write(&s).await;
            StatusCode::NOT_FOUND
        });
    let app = router.layer(layer(memory(&clock())));
    for (method, path, status) in [
        (Method::GET, "/redirect", 303),
        (Method::GET, "/not_modified", 304),
        (Method::GET, "/refused", 403),
        (Method::HEAD, "/head", 200),
        (Method::GET, "/nowhere", 404),
    ] {
        let mut request = Browser::new(&app).request(path);
        *request.method_mut() = method;
        let reply = send(&app, request).await;
        assert_eq!(reply.status, status, "{path}");
        reply.cookie();
        assert_eq!(reply.all(header::CACHE_CONTROL), ["no-store"], "{path}");
        assert_eq!(reply.all(header::VARY), ["cookie"], "{path}");
    }
}

#[tokio::test]
async fn the_inner_of_two_layers_of_one_realm_serves_what_is_inside() {
    let clock = clock();
    let store = memory(&clock);
    let inside = routes().layer(layer(store.clone()).with_timeouts(Timeouts::AAL3));
    let app = routes().nest("/admin", inside).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/admin/login").await.cookie();
    browser.get("/set").await;
    assert_eq!(live(&store).await, 1);
    assert_eq!(browser.get("/admin/get").await.body, "v");
    clock.advance(16 * MINUTE);
    assert_eq!(browser.get("/admin/origin").await.body, "expired");
    browser.get("/admin/set").await.cookie();
    assert_eq!(browser.get("/get").await.body, "v");
}

#[tokio::test]
async fn a_layer_serves_merged_routers_fallbacks_and_middleware_within() {
    async fn before(session: Session, request: axum::extract::Request, next: Next) -> Response {
        session.insert("seen", &true).await.unwrap();
        next.run(request).await
    }
    let keys = async |s: Session| s.keys().await.map(|keys| keys.join(","));
    let app = routes()
        .merge(Router::new().route("/keys", get(keys)))
        .fallback(keys)
        .layer(axum::middleware::from_fn(before))
        .layer(layer(memory(&clock())));
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/keys").await.body, "seen");
    assert_silent(&browser.get("/keys").await);
    browser.get("/set").await;
    assert_eq!(browser.get("/nowhere").await.body, "k,seen");
}

#[tokio::test]
async fn rule_08_a_hang_up_at_any_point_leaves_a_login_whole_or_undone() {
    for polls in 0..12 {
        let store = Probe::new(&clock());
        let login = async |session: Session| -> Result<()> {
            session.login("alice").await?;
            session.insert("own", &1).await
        };
        let app = routes().route("/both", get(login)).layer(layer(store.clone()));
        let mut browser = Browser::new(&app);
        browser.get("/set").await;
        store.counts.slow.store(true, Ordering::SeqCst);
        let response = {
            let mut response = std::pin::pin!(app.clone().oneshot(browser.request("/both")));
            let mut done = None;
            for _ in 0..polls {
                if done.is_none() {
                    done = poll_once(response.as_mut()).await;
                }
            }
            done
        };
        store.counts.slow.store(false, Ordering::SeqCst);
        if let Some(response) = response {
            browser.jar.receive(response.unwrap().headers());
            assert_eq!(browser.get("/user").await.body, "alice", "{polls}");
        }
        assert_eq!(live(&store.inner).await, 1, "{polls}");
        let signed_in = store.sessions_of("alice").await.unwrap();
        let origin = browser.get("/origin").await.body;
        let is_own = origin == "restored";
        assert!(is_own || (origin == "superseded" && signed_in.len() == 1), "{polls}: {origin}");
        for session in signed_in {
            let session = Session::by_id(&store.inner, session.id).await.unwrap();
            assert_eq!(session.keys().await.unwrap(), ["k", "own"], "{polls}");
        }
    }
}

/// What `future` is ready with when polled once.
async fn poll_once<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let ready = std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    });
    let ready = ready.await;
    tokio::task::yield_now().await;
    ready
}
