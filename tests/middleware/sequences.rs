//! Several calls in one request, in every order that an application may come up with.

use super::*;

async fn keys(session: Session) -> Result<String> {
    session.keys().await.map(|keys| keys.join(","))
}

async fn label(session: Session) -> Result<String> {
    session.label().await.map(Option::unwrap_or_default)
}

/// A browser that is signed in as alice, with a value, on an app with `handler` at `/try`.
async fn alice<H, T>(store: &MemoryStore, handler: H) -> Browser
where
    H: axum::handler::Handler<T, ()>,
    T: 'static,
{
    let app = routes()
        .route("/try", get(handler))
        .route("/keys", get(keys))
        .route("/label", get(label))
        .layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    browser.get("/set").await;
    browser
}

#[tokio::test]
async fn rule_07_logout_then_login_is_a_session_of_its_own() {
    let store = memory(&clock());
    let again = async |session: Session| -> Result<()> {
        session.insert("before", &1).await?;
        session.destroy().await?;
        session.insert("between", &1).await?;
        session.login("bob").await
    };
    let mut browser = alice(&store, again).await;
    browser.get("/try").await.cookie();
    assert_eq!(browser.get("/user").await.body, "bob");
    assert_eq!(browser.get("/keys").await.body, "between");
    assert_eq!(live(&store).await, 1);
}

#[tokio::test]
async fn rule_07_logout_drops_what_is_staged_and_pending() {
    let store = memory(&clock());
    let handler = async |session: Session| -> Result<()> {
        session.insert("k", "pending").await?;
        session.login("bob").await?;
        session.remember(Timeouts::AAL1).await?;
        session.destroy().await?;
        session.destroy().await?;
        assert_eq!(session.user().await?, None);
        assert!(session.is_empty().await?);
        session.save().await
    };
    let mut browser = alice(&store, handler).await;
    assert!(browser.get("/try").await.cookie().contains("Max-Age=0"));
    assert_eq!(live(&store).await, 0);
}

#[tokio::test]
async fn rule_07_a_renewed_session_can_be_ended_in_the_same_request() {
    let store = memory(&clock());
    let handler = async |session: Session| -> Result<()> {
        session.renew().await?;
        session.save().await?;
        session.destroy().await
    };
    let mut browser = alice(&store, handler).await;
    assert!(browser.get("/try").await.cookie().contains("Max-Age=0"));
    assert_eq!(live(&store).await, 0);
}

#[tokio::test]
async fn rule_07_a_logout_survives_an_error_page() {
    let store = memory(&clock());
    let handler = async |session: Session| {
        session.destroy().await.unwrap();
        failed()
    };
    let mut browser = alice(&store, handler).await;
    let reply = browser.get("/try").await;
    assert_eq!(reply.status, 500);
    assert!(reply.cookie().contains("Max-Age=0"));
    assert_eq!(live(&store).await, 0);
}

#[tokio::test]
async fn rule_13_remember_counts_before_and_after_login() {
    for remember_first in [true, false] {
        let store = memory(&clock());
        let handler = async move |session: Session| -> Result<()> {
            if remember_first {
                session.remember(Timeouts::AAL1).await?;
            }
            session.login("alice").await?;
            session.set_label("phone").await?;
            if !remember_first {
                session.remember(Timeouts::AAL1).await?;
            }
            Ok(())
        };
        let mut browser = alice(&store, handler).await;
        let reply = browser.get("/try").await;
        assert!(reply.cookie().contains("; Max-Age=2592000;"), "{}", reply.cookie());
        assert_eq!(browser.get("/label").await.body, "phone");
        assert!(!browser.get("/login").await.cookie().contains("Max-Age"));
        assert_eq!(browser.get("/label").await.body, "phone");
        browser.get("/login/bob").await;
        assert_eq!(browser.get("/label").await.body, "");
    }
}

#[tokio::test]
async fn rule_08_the_last_of_several_logins_counts() {
    let store = memory(&clock());
    let handler = async |session: Session| -> Result<()> {
        session.renew().await?;
        session.login("bob").await?;
        session.insert("bobs", &1).await?;
        session.login("carol").await?;
        session.renew().await?;
        session.insert("carols", &1).await?;
        session.save().await?;
        session.login("dave").await?;
        session.insert("daves", &1).await
    };
    let mut browser = alice(&store, handler).await;
    browser.get("/try").await.cookie();
    assert_eq!(browser.get("/user").await.body, "dave");
    assert_eq!(browser.get("/keys").await.body, "daves");
    assert_eq!(live(&store).await, 1);
}

#[tokio::test]
async fn rule_08_a_login_is_committed_before_an_update_goes_into_it() {
    let store = memory(&clock());
    let handler = async |session: Session| -> Result<()> {
        session.login("bob").await?;
        let n = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
        assert_eq!(n, 1);
        session.insert("later", &1).await
    };
    let mut browser = alice(&store, handler).await;
    browser.get("/count").await;
    browser.get("/try").await.cookie();
    assert_eq!(browser.get("/user").await.body, "bob");
    assert_eq!(browser.get("/keys").await.body, "later,n");
}

#[tokio::test]
async fn rule_11_others_are_ended_even_for_a_login_of_this_request() {
    let store = memory(&clock());
    let handler = async |session: Session| -> Result<()> {
        session.destroy().await?;
        session.login("alice").await?;
        session.destroy_others().await?;
        assert!(session.siblings().await?.is_empty());
        session.insert("k", "own").await
    };
    let mut browser = alice(&store, handler).await;
    let mut other = Browser::new(&browser.app);
    other.get("/login").await;
    browser.get("/try").await.cookie();
    assert_eq!(browser.get("/user").await.body, "alice");
    assert_eq!(browser.get("/get").await.body, "own");
    assert_eq!(other.get("/origin").await.body, "ended");
}

#[tokio::test]
async fn rule_02_what_comes_to_nothing_stores_nothing() {
    let store = Probe::new(&clock());
    let handler = async |session: Session| -> Result<()> {
        session.insert("k", &1).await?;
        assert_eq!(session.take::<u8>("k").await?, Some(1));
        assert!(!session.remove("k").await?);
        session.insert("k", &1).await?;
        session.clear().await?;
        session.renew().await?;
        session.touch().await?;
        session.save().await
    };
    let app = Router::new().route("/", get(handler)).layer(layer(store.clone()));
    assert_silent(&Browser::new(&app).get("/").await);
    assert_eq!(store.counts.calls(), 0);
}

#[tokio::test]
async fn rule_16_a_login_starts_afresh_whatever_the_cookie_was() {
    let clock = clock();
    let store = memory(&clock);
    let mut browser = alice(&store, async || "").await;
    for origin in ["superseded", "ended", "expired", "not_found"] {
        let mut old = browser.clone();
        match origin {
            "superseded" => drop(browser.get("/renew").await),
            "ended" => drop(browser.get("/logout").await),
            "expired" => clock.advance(48 * 60 * MINUTE),
            _ => {
                clock.advance(48 * 60 * MINUTE);
                store.purge().await.unwrap();
            }
        }
        assert_eq!(old.peek("/origin").await.body, origin);
        old.get("/login").await.cookie();
        assert_eq!(old.get("/user").await.body, "alice", "{origin}");
        assert_eq!(old.get("/get").await.body, "", "{origin}");
        browser = old;
    }
}
