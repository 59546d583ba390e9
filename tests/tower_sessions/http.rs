//! tower-sessions' own layer and handlers, over every kind of request.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use axum::routing::get;
use axum_login::tower_sessions::{Expiry, Session, SessionManagerLayer};
use fastsession::tower_sessions::Store;
use fastsession::{MemoryStore, SessionStore};
use http_body_util::BodyExt;
use time::{Duration, OffsetDateTime};
use tower::ServiceExt;

use super::summaries;

fn app(store: &MemoryStore, expiry: Option<Expiry>) -> Router {
    let mut layer = SessionManagerLayer::new(Store::new(store.clone()));
    if let Some(expiry) = expiry {
        layer = layer.with_expiry(expiry);
    }
    Router::new()
        .route("/", get(async |_: Session| "untouched"))
        .route("/set", get(async |session: Session| session.insert("n", 42).await.unwrap()))
        .route(
            "/get",
            get(async |session: Session| format!("{:?}", session.get::<u64>("n").await.unwrap())),
        )
        .route(
            "/remove",
            get(async |session: Session| {
                format!("{:?}", session.remove::<u64>("n").await.unwrap())
            }),
        )
        .route("/cycle", get(async |session: Session| session.cycle_id().await.unwrap()))
        .route("/flush", get(async |session: Session| session.flush().await.unwrap()))
        .route(
            "/week",
            get(async |session: Session| {
                session.set_expiry(Some(Expiry::OnInactivity(Duration::weeks(1))));
            }),
        )
        .layer(layer)
}

/// Status, body and the session cookie that was set, with its attributes.
async fn ask(app: &Router, path: &str, cookie: Option<&str>) -> (u16, String, Option<String>) {
    let mut request = Request::get(path);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, format!("id={cookie}"));
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let set = response.headers().get(header::SET_COOKIE).map(|v| v.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), set)
}

fn value(set: Option<String>) -> String {
    let set = set.unwrap();
    set.split(';').next().unwrap().strip_prefix("id=").unwrap().to_owned()
}

#[tokio::test]
async fn a_session_is_made_read_changed_cycled_and_flushed() {
    let store = MemoryStore::new().unwrap();
    let app = app(&store, None);
    assert_eq!(ask(&app, "/", None).await.2, None, "nothing written, no cookie");
    assert_eq!(store.stats().await.unwrap().records, 0);

    let cookie = value(ask(&app, "/set", None).await.2);
    assert_eq!(ask(&app, "/get", Some(&cookie)).await.1, "Some(42)");
    assert_eq!(summaries(&store).await.len(), 1);

    let cycled = value(ask(&app, "/cycle", Some(&cookie)).await.2);
    assert_ne!(cycled, cookie);
    assert_eq!(ask(&app, "/get", Some(&cookie)).await.1, "None", "the old ID is dead");
    assert_eq!(ask(&app, "/get", Some(&cycled)).await.1, "Some(42)");

    assert_eq!(ask(&app, "/remove", Some(&cycled)).await.1, "Some(42)");
    assert_eq!(ask(&app, "/get", Some(&cycled)).await.1, "None");

    let (_, _, deletion) = ask(&app, "/flush", Some(&cycled)).await;
    assert!(deletion.unwrap().contains("Max-Age=0"));
    assert_eq!(ask(&app, "/get", Some(&cycled)).await.1, "None");
}

#[tokio::test]
async fn unknown_and_malformed_cookies_are_fresh_visitors_and_never_adopted() {
    let store = MemoryStore::new().unwrap();
    let app = app(&store, None);
    for bogus in ["AAAAAAAAAAAAAAAAAAAAAA", "malformed", "", "=", "ü"] {
        let (status, body, _) = ask(&app, "/get", Some(bogus)).await;
        assert_eq!((status, &*body), (200, "None"), "{bogus}");
        let set = value(ask(&app, "/set", Some(bogus)).await.2);
        assert_ne!(set, bogus);
    }
}

#[tokio::test]
async fn their_expiry_is_the_sessions_deadline() {
    let store = MemoryStore::new().unwrap();
    let until = OffsetDateTime::now_utc() + Duration::hours(3);
    for (expiry, expected, has_max_age) in [
        (None, Duration::weeks(2), false),
        (Some(Expiry::OnInactivity(Duration::hours(5))), Duration::hours(5), true),
        (Some(Expiry::AtDateTime(until)), Duration::hours(3), true),
    ] {
        let app = app(&store, expiry);
        let before = summaries(&store).await;
        let (_, _, set) = ask(&app, "/set", None).await;
        assert_eq!(set.as_ref().unwrap().contains("Max-Age"), has_max_age, "{set:?}");
        let new: Vec<_> = summaries(&store)
            .await
            .into_iter()
            .filter(|session| before.iter().all(|known| known.id != session.id))
            .collect();
        let left = new[0].expires_at.saturating_since(store.clock().now());
        let off = Duration::try_from(left).unwrap() - expected;
        assert!(off.abs() < Duration::minutes(1), "{expiry:?}: {off}");

        let cookie = value(set);
        ask(&app, "/week", Some(&cookie)).await;
    }
}
