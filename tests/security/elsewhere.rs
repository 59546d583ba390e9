//! A right cookie's value in a wrong place.

use axum::body::Body;
use axum::http::{Method, Request, header};
use axum::routing::any;
use fastsession::{CookieOptions, Session, testing};

use crate::support::{Probe, clock, layer, send};

#[tokio::test]
async fn security_07_a_value_counts_nowhere_but_in_its_cookie() {
    let store = Probe::new(&clock());
    let cookie = CookieOptions::insecure_http();
    let alice = testing::signed_in::<(), _>(&store.inner, &cookie, "alice").await.unwrap();
    let pair = &alice.cookie;
    let value = pair.split_once('=').unwrap().1;
    let user = async |session: Session| session.user().await.map(Option::unwrap_or_default);
    let app = axum::Router::new()
        .route("/user", any(user))
        .route("/user/{value}", any(user))
        .layer(layer(store.clone()));
    let request = || Request::builder().method(Method::POST).uri("/user");
    let form = (header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (place, request) in [
        ("query", request().uri(format!("/user?{pair}")).body(Body::empty())),
        ("path", request().uri(format!("/user/{value}")).body(Body::empty())),
        ("form", request().header(form.0, form.1).body(Body::from(pair.clone()))),
        (
            "bearer",
            request().header("authorization", format!("Bearer {value}")).body(Body::empty()),
        ),
        ("Set-Cookie", request().header("set-cookie", pair).body(Body::empty())),
        ("Cookie2", request().header("cookie2", pair).body(Body::empty())),
        ("name", request().header("sid", value).body(Body::empty())),
        ("referrer", request().header("referer", format!("/?{pair}")).body(Body::empty())),
    ] {
        let reply = send(&app, request.unwrap()).await;
        assert!(reply.body.is_empty() && reply.cookies().is_empty(), "{place}: {reply:?}");
    }
    assert_eq!(store.counts.loads(), 0);
    let right = request().header(header::COOKIE, pair).body(Body::empty()).unwrap();
    assert_eq!(send(&app, right).await.body, "alice");
}
