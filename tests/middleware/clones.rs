//! Clones of one handle at work at the same time, and calls that are given up half-way.

use super::*;
use crate::support::Counts;
use fastsession::SessionId;

/// Starts `call`, and comes back when the store has the commit but the caller not the answer.
async fn half_way<T: Send + 'static>(
    counts: &Counts,
    call: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let commits = counts.commits();
    counts.slow.store(true, Ordering::SeqCst);
    let task = tokio::spawn(call);
    while counts.commits() == commits {
        tokio::task::yield_now().await;
    }
    task
}

fn store() -> (Probe, std::sync::Arc<Counts>) {
    let store = Probe::new(&clock());
    let counts = store.counts.clone();
    (store, counts)
}

async fn keys(session: Session) -> Result<String> {
    session.keys().await.map(|keys| keys.join(","))
}

async fn stored(store: &Probe, id: SessionId) -> Result<Session> {
    Session::by_id(&store.inner, id).await
}

#[tokio::test]
async fn rule_04_an_insert_during_an_update_of_the_same_key_comes_after_it() {
    let (store, counts) = store();
    let handler = async move |session: Session| -> Result<()> {
        let clone = session.clone();
        let update = async move { clone.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await };
        let updating = half_way(&counts, update).await;
        session.insert("n", &100).await?;
        updating.await.unwrap().map(drop)
    };
    let app = routes().route("/both", get(handler)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    for _ in ["creating the session", "in a session"] {
        browser.get("/both").await;
        store.counts.slow.store(false, Ordering::SeqCst);
        assert_eq!(browser.peek("/count").await.body, "101");
    }
}

#[tokio::test]
async fn rule_04_what_was_committed_is_not_committed_again() {
    let (store, counts) = store();
    let others = store.clone();
    let handler = async move |session: Session| -> Result<()> {
        let id = session.id().await?.unwrap();
        session.clear().await?;
        session.insert("mine", &1).await?;
        session.insert("gone", &1).await?;
        session.set_label("old").await?;
        let clone = session.clone();
        let saving = half_way(&counts, async move { clone.save().await }).await;
        session.insert("later", &1).await?;
        session.remove("gone").await?;
        saving.await.unwrap()?;
        let other = stored(&others, id).await?;
        other.set_label("new").await?;
        other.insert("others", &1).await?;
        other.save().await
    };
    let label = async |s: Session| s.label().await.map(Option::unwrap_or_default);
    let app = routes()
        .route("/both", get(handler))
        .route("/keys", get(keys))
        .route("/label", get(label))
        .layer(layer(store));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    assert_eq!(browser.get("/both").await.status, 200);
    assert_eq!(browser.peek("/keys").await.body, "later,mine,others");
    assert_eq!(browser.peek("/label").await.body, "new");
}

#[tokio::test]
async fn rule_08_a_login_during_the_commit_of_a_renewal_is_not_lost() {
    let (store, counts) = store();
    let handler = async move |session: Session| -> Result<()> {
        session.renew().await?;
        let clone = session.clone();
        let saving = half_way(&counts, async move { clone.save().await }).await;
        session.login("alice").await?;
        saving.await.unwrap()
    };
    let app = routes().route("/both", get(handler)).layer(layer(store.clone()));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    browser.get("/both").await.cookie();
    assert_eq!(browser.get("/user").await.body, "alice");
    assert_eq!(live(&store.inner).await, 1);
}

#[tokio::test]
async fn rule_08_changes_after_an_unknown_outcome_are_committed_too() {
    let (store, counts) = store();
    let handler = async move |session: Session| -> Result<()> {
        session.login("alice").await?;
        session.insert("before", &1).await?;
        counts.forgetful.store(true, Ordering::SeqCst);
        assert!(session.save().await.unwrap_err().is_unknown_outcome());
        session.insert("after", &1).await
    };
    let app = routes().route("/retry", get(handler)).route("/keys", get(keys)).layer(layer(store));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    browser.get("/retry").await.cookie();
    assert_eq!(browser.get("/keys").await.body, "after,before,k");
}

#[tokio::test]
async fn rule_08_an_unknown_outcome_signs_nobody_else_in() {
    for first in [None, Some("alice")] {
        let (store, counts) = store();
        let handler = async move |session: Session| -> Result<()> {
            match first {
                Some(user) => session.login(user).await?,
                None => session.renew().await?,
            }
            counts.forgetful.store(true, Ordering::SeqCst);
            assert!(session.save().await.unwrap_err().is_unknown_outcome());
            session.login("bob").await
        };
        let app = routes().route("/retry", get(handler)).layer(layer(store));
        let mut browser = Browser::new(&app);
        browser.get("/set").await;
        browser.get("/retry").await.cookie();
        assert_eq!(browser.get("/user").await.body, "bob");
    }
}

/// Polls `future` up to `polls` times and drops it.
async fn poll_times<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let poll =
            std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context)));
        if let std::task::Poll::Ready(done) = poll.await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn rule_04_an_update_given_up_at_any_point_leaves_the_others_exact() {
    let (store, counts) = store();
    let mut browser = Browser::new(&app(store.clone()));
    browser.get("/set").await;
    let id = store.inner.page(&fastsession::store::Query {
        filter: Filter::new(),
        after: None,
        limit: 1,
        at: store.clock().now(),
    });
    let id = id.await.unwrap().sessions[0].id;
    counts.slow.store(true, Ordering::SeqCst);
    let add = async |session: &Session| {
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap()
    };
    let (mut least, mut most) = (0, 0);
    for polls in 0..12 {
        let [first, second, third] = [
            Session::by_id(&store, id).await.unwrap(),
            Session::by_id(&store, id).await.unwrap(),
            Session::by_id(&store, id).await.unwrap(),
        ];
        let given_up = async { poll_times(polls, add(&second)).await };
        let (_, done, _) = tokio::join!(add(&first), given_up, add(&third));
        least += 2 + u64::from(done.is_some());
        most += 3;
        let now = add(&first).await;
        (least, most) = (least + 1, most + 1);
        assert!((least..=most).contains(&now), "{least} <= {now} <= {most}");
        least = now;
        most = now;
        // The handle whose update was given up goes on.
        assert_eq!(add(&second).await, now + 1);
        (least, most) = (least + 1, most + 1);
    }
}

#[tokio::test]
async fn rule_08_a_login_given_up_at_any_point_is_whole_or_absent() {
    for polls in 0..12 {
        let (store, counts) = store();
        let handler = async move |session: Session| -> Result<&'static str> {
            session.login("alice").await?;
            session.insert("own", &1).await?;
            counts.slow.store(true, Ordering::SeqCst);
            let _ = poll_times(polls, session.save()).await;
            counts.slow.store(false, Ordering::SeqCst);
            session.insert("more", &1).await?;
            Ok("done")
        };
        let app =
            routes().route("/try", get(handler)).route("/keys", get(keys)).layer(layer(store));
        let mut browser = Browser::new(&app);
        browser.get("/set").await;
        browser.get("/try").await.cookie();
        assert_eq!(browser.get("/user").await.body, "alice", "{polls}");
        assert_eq!(browser.get("/keys").await.body, "k,more,own", "{polls}");
    }
}

/// What a handle may do to what it inserted.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Remove,
    Clear,
}

impl Undo {
    async fn of(self, session: &Session) -> Result<()> {
        match self {
            Self::Remove => session.remove("a").await.map(|was_there| assert!(was_there)),
            Self::Clear => session.clear().await,
        }
    }
}

/// Leaves a session without a key, in two commits.
async fn empty(session: Session) -> Result<()> {
    session.insert("a", &1).await?;
    session.save().await?;
    session.clear().await?;
    session.save().await
}

/// How the outcome of a save stays unknown to its caller.
#[derive(Clone, Copy, Debug)]
enum Unknown {
    Answered,
    AnsweredTwice,
    GivenUp,
}

impl Unknown {
    async fn save(self, session: &Session, counts: &Counts) {
        if matches!(self, Self::GivenUp) {
            let clone = session.clone();
            let saving = half_way(counts, async move { clone.save().await }).await;
            saving.abort();
            assert!(saving.await.unwrap_err().is_cancelled());
            counts.slow.store(false, Ordering::SeqCst);
            return;
        }
        let times = if matches!(self, Self::AnsweredTwice) { 2 } else { 1 };
        for _ in 0..times {
            counts.forgetful.store(true, Ordering::SeqCst);
            assert!(session.save().await.unwrap_err().is_unknown_outcome());
        }
    }
}

#[tokio::test]
async fn rule_04_what_is_removed_after_an_unknown_outcome_is_not_stored() {
    for how in [Unknown::Answered, Unknown::AnsweredTwice, Unknown::GivenUp] {
        for (undo, left) in [(Undo::Remove, "b"), (Undo::Clear, "")] {
            for renews in [false, true] {
                let (store, counts) = store();
                let handler = async move |session: Session| -> Result<()> {
                    if renews {
                        session.renew().await?;
                    }
                    session.insert("a", &1).await?;
                    session.insert("b", &1).await?;
                    how.save(&session, &counts).await;
                    undo.of(&session).await?;
                    session.insert("a", &2).await?;
                    undo.of(&session).await
                };
                let app = routes()
                    .route("/empty", get(empty))
                    .route("/try", get(handler))
                    .route("/keys", get(keys))
                    .layer(layer(store));
                let mut browser = Browser::new(&app);
                browser.get("/empty").await;
                assert_eq!(browser.get("/try").await.status, 200);
                let stored = browser.get("/keys").await.body;
                assert_eq!(stored, left, "{how:?}, {undo:?}, renews: {renews}");
            }
        }
    }
}

#[tokio::test]
async fn rule_04_what_is_removed_during_its_commit_is_not_stored() {
    for (undo, left) in [(Undo::Remove, "b"), (Undo::Clear, "")] {
        let (store, counts) = store();
        let handler = async move |session: Session| -> Result<()> {
            session.insert("a", &1).await?;
            session.insert("b", &1).await?;
            let clone = session.clone();
            let saving = half_way(&counts, async move { clone.save().await }).await;
            undo.of(&session).await?;
            saving.await.unwrap()
        };
        let app =
            routes().route("/both", get(handler)).route("/keys", get(keys)).layer(layer(store));
        let mut browser = Browser::new(&app);
        for session in ["a new one", "an old one"] {
            assert_eq!(browser.get("/both").await.status, 200);
            assert_eq!(browser.get("/keys").await.body, left, "{undo:?} in {session}");
        }
    }
}

#[tokio::test]
async fn rule_04_what_is_removed_during_its_update_is_not_stored() {
    let (store, counts) = store();
    let handler = async move |session: Session| -> Result<()> {
        session.insert("a", &1).await?;
        let clone = session.clone();
        let update = async move { clone.update("a", |n: Option<u64>| n.unwrap_or(0) + 1).await };
        let updating = half_way(&counts, update).await;
        Undo::Remove.of(&session).await?;
        updating.await.unwrap().map(drop)
    };
    let app = routes().route("/both", get(handler)).route("/keys", get(keys)).layer(layer(store));
    let mut browser = Browser::new(&app);
    for session in ["a new one", "an old one"] {
        assert_eq!(browser.get("/both").await.status, 200);
        assert_eq!(browser.get("/keys").await.body, "", "in {session}");
    }
}

#[tokio::test]
async fn rule_04_what_is_removed_after_an_update_of_unknown_outcome_is_not_stored() {
    let (store, counts) = store();
    let handler = async move |session: Session| -> Result<()> {
        session.insert("a", &1).await?;
        counts.forgetful.store(true, Ordering::SeqCst);
        let updated = session.update("a", |n: Option<u64>| n.unwrap_or(0) + 1).await;
        assert!(updated.unwrap_err().is_unknown_outcome());
        Undo::Remove.of(&session).await
    };
    let app = routes().route("/try", get(handler)).route("/keys", get(keys)).layer(layer(store));
    let mut browser = Browser::new(&app);
    browser.get("/set").await;
    assert_eq!(browser.get("/try").await.status, 200);
    assert_eq!(browser.get("/keys").await.body, "k");
}

#[tokio::test]
async fn rule_02_what_was_inserted_and_removed_again_is_no_change() {
    for undo in [Undo::Remove, Undo::Clear] {
        let (store, counts) = store();
        let probe = counts.clone();
        let handler = async move |session: Session| -> Result<()> {
            session.insert("a", &1).await?;
            counts.read_only.store(true, Ordering::SeqCst);
            assert!(session.save().await.unwrap_err().is_unavailable());
            let updated = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await;
            assert!(updated.unwrap_err().is_unavailable());
            counts.read_only.store(false, Ordering::SeqCst);
            undo.of(&session).await
        };
        // What is known to be done leaves nothing in doubt.
        let again = async move |session: Session| -> Result<()> {
            session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
            session.insert("a", &1).await?;
            Undo::Remove.of(&session).await?;
            session.save().await?;
            empty(session.clone()).await?;
            session.insert("a", &1).await?;
            undo.of(&session).await
        };
        let app =
            routes().route("/try", get(handler)).route("/again", get(again)).layer(layer(store));
        let mut browser = Browser::new(&app);
        for session in ["none", "an empty one"] {
            let commits = probe.commits();
            assert_silent(&browser.get("/try").await);
            assert_eq!(probe.commits(), commits + 2, "{undo:?} in {session}: only those refused");
            assert_eq!(browser.get("/again").await.status, 200);
            assert_eq!(probe.commits(), commits + 5, "{undo:?} in {session}");
        }
    }
}

#[tokio::test]
async fn rule_02_a_visitor_who_takes_back_what_may_be_stored_gets_no_other_session() {
    for how in [Unknown::Answered, Unknown::GivenUp] {
        let (store, counts) = store();
        let handler = async move |session: Session| -> Result<()> {
            session.insert("a", &1).await?;
            how.save(&session, &counts).await;
            Undo::Remove.of(&session).await
        };
        let app = routes().route("/try", get(handler)).layer(layer(store.clone()));
        assert_silent(&Browser::new(&app).get("/try").await);
        assert_eq!(live(&store.inner).await, 1, "{how:?}: the one of the first save");
    }
}
