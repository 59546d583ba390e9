//! The response phase: decide, carry out, and say which headers the response gets.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::commit::Head;
use super::load::{Conclusion, Sought};
use super::shared::{Shared, broken_contract};
use super::state::{CookieDue, Lost, State};
use super::{Inner, Known};
use crate::error::{Error, Result};
use crate::id::{SessionId, SessionToken};
use crate::keyring::seal;
use crate::origin::Origin;
use crate::store::{Answer, Draft, Freshness, Op, Outcome};

/// A store that takes longer to say that it does not know is not asked twice: the client waits.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What the response is to carry.
#[derive(Default)]
pub(crate) struct Closing {
    /// The session was asked for, so that the response depends on the cookie.
    pub(crate) consulted: bool,
    pub(crate) cookie: Option<ClosingCookie>,
    /// The response must not go out: what it promises was not done.
    pub(crate) error: Option<Error>,
}

impl Closing {
    /// Whether the response stays as it is.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.consulted && self.cookie.is_none() && self.error.is_none()
    }
}

pub(crate) enum ClosingCookie {
    Set { value: String, max_age: Option<Duration> },
    Delete,
}

/// What the layer knows about the response and the request.
#[derive(Clone, Copy)]
pub(crate) struct Closed {
    /// The response is a 5xx: plain changes are dropped.
    pub(crate) failed: bool,
    /// This request counts as activity if it read the session.
    pub(crate) is_activity: bool,
}

impl Inner {
    /// The response phase, as far as there is nothing to wait for.
    #[inline]
    pub(crate) fn finish_now(this: &mut Arc<Self>, closed: Closed) -> Finished {
        // Nearly always every handle is gone by now, and nobody is to be kept out.
        let Some(Self { shared, known, .. }) = Arc::get_mut(this) else {
            return this.finish_beside_others(closed);
        };
        let known = known.get_mut();
        match known.state {
            Some(_) => finish_alone(shared, known, closed),
            None if shared.settings.create_always => Finished::NotNow,
            // Nobody asked, nor can anybody from now on.
            None => Finished::Closed(Closing::default()),
        }
    }

    fn finish_beside_others(&self, closed: Closed) -> Finished {
        let Ok(_turn) = self.turn.try_lock() else { return Finished::NotNow };
        let mut known = self.known.lock();
        match close_now(&self.shared, known.state(), closed) {
            Some(closing) => {
                known.let_go();
                Finished::Closed(closing)
            }
            None => Finished::NotNow,
        }
    }

    /// The response phase from the store's answer on.
    pub(crate) async fn finish_asked(self: Arc<Self>, asked: Asked, closed: Closed) -> Closing {
        let answered = asked.answer.await;
        let closing = {
            let mut known = self.known.lock();
            close_answered(&self.shared, &mut known, asked.of, answered, closed)
        };
        match closing {
            Some(closing) => closing,
            None => Box::pin(self.finish(closed)).await,
        }
    }

    /// The response phase.
    pub(crate) async fn finish(self: Arc<Self>, closed: Closed) -> Closing {
        let _turn = self.turn.lock().await;
        if self.shared.settings.create_always && !closed.failed {
            self.prepare_empty_session().await;
        }
        let staged = {
            let mut state = self.state();
            drop_changes_of_failure(&mut state, closed);
            state.head_sent = true;
            state.staged.is_some()
        };
        let committed = self.commit_for_head(staged).await;
        let error = implicit_error(&self.shared, committed, staged);
        if error.is_none() {
            self.resign().await;
        }
        let mut known = self.known.lock();
        let closing = close(&self.shared, known.state(), closed);
        known.let_go();
        Closing { error, ..closing }
    }

    /// Commits everything pending. A renewal or login whose outcome the store does not know is
    /// asked for once more: if it went through, it would have ended the session that the visitor's
    /// cookie still names, and the second try finds the session it made.
    async fn commit_for_head(&self, staged: bool) -> Result<()> {
        let asked = Instant::now();
        let committed = self.commit_pending(Head::Waiting).await;
        let unknown = committed.as_ref().is_err_and(Error::is_unknown_outcome);
        if staged && unknown && asked.elapsed() < AT_ONCE {
            return self.commit_pending(Head::Waiting).await;
        }
        committed
    }

    /// Every visitor gets a session, if so configured; not if the store cannot tell whether there
    /// is one already.
    async fn prepare_empty_session(&self) {
        if self.loaded().await.is_ok() {
            let mut state = self.state();
            state.create_empty = state.live.is_none()
                && state.lost.is_none()
                && !matches!(state.cookie, CookieDue::Delete);
        }
    }

    /// A cookie of a retiring key is signed anew, if its session is still current: otherwise it
    /// could overwrite the cookie of the session that took its place.
    async fn resign(&self) {
        let id = {
            let state = self.state();
            let due = state.resign && matches!(state.cookie, CookieDue::None);
            state.live.as_ref().filter(|_| due).map(|live| live.id)
        };
        let Some(id) = id else { return };
        // Failing costs nothing but another try with the next request.
        let Ok(Some(value)) = self.own_cookie().await else { return };
        if let Ok(true) = self.shared.is_live_now(&id).await {
            self.state().cookie = CookieDue::Set(value);
        }
    }
}

/// Where the response phase is when it has to wait, if it has to.
pub(crate) enum Finished {
    Closed(Closing),
    /// For the store's answer.
    Asked(Asked),
    /// For others, or for more than one step.
    NotNow,
}

/// A commit that the store was asked for.
pub(crate) struct Asked {
    answer: Answer<Outcome>,
    of: Of,
}

/// Which session is committed.
enum Of {
    /// The one that was loaded.
    Loaded,
    /// The one of the request's cookie, which the commit's answer brings.
    Unseen(SessionId),
    /// One that is new with it.
    New { id: SessionId, token: SessionToken, cookie: String },
}

/// Commits what nearly every response has to commit, changes of one session or those that make
/// one, without the turns, copies and futures that only several handles need: nobody else has one.
fn finish_alone(shared: &Shared, known: &mut Known, closed: Closed) -> Finished {
    if let Some(closing) = close_now(shared, known.state(), closed) {
        return Finished::Closed(closing);
    }
    let Some(Asked { answer, of }) = ask(shared, known, closed) else { return Finished::NotNow };
    match answer.now() {
        Ok(answered) => match close_answered(shared, known, of, answered, closed) {
            Some(closing) => Finished::Closed(closing),
            None => Finished::NotNow,
        },
        Err(answer) => Finished::Asked(Asked { answer, of }),
    }
}

/// Asks the store for the one commit that is due, if it is a plain one.
fn ask(shared: &Shared, known: &mut Known, closed: Closed) -> Option<Asked> {
    let state = known.state();
    let is_plain = !state.draft.is_empty()
        && state.draft.remember.is_none()
        && state.staged.is_none()
        && state.lost.is_none()
        && !state.resign
        && (closed.failed || !shared.settings.create_always);
    if !is_plain {
        return None;
    }
    let draft = state.draft.clone();
    let realm = shared.settings.realm.map(Into::into);
    if state.origin.is_none() {
        match shared.seek(&known.carried) {
            Sought::Found(found) if found.is_current() => {
                let op = Op::MergeUnseen { realm, draft };
                let answer = shared.ask_at(found.at, found.id, op);
                return Some(Asked { answer, of: Of::Unseen(found.id) });
            }
            Sought::Nothing => known.install(shared, Conclusion::NOTHING),
            _ => return None,
        }
    }
    if let Some(live) = &known.state().live {
        return Some(Asked { answer: shared.ask(live.id, Op::Merge(draft)), of: Of::Loaded });
    }
    let ring = shared.store.keys(Freshness::Recent).now().ok()?.ok()?;
    let token = SessionToken::generate().ok()?;
    let cookie = seal(&ring, &shared.settings.scope, &token);
    let id = token.id();
    let answer = shared.ask(id, Op::Create { realm, draft, login: None });
    Some(Asked { answer, of: Of::New { id, token, cookie } })
}

/// What the response carries after this answer; `None` if there has to be another step.
fn close_answered(
    shared: &Shared,
    known: &mut Known,
    of: Of,
    answered: Result<Outcome>,
    closed: Closed,
) -> Option<Closing> {
    let committed = match answered {
        Ok(Outcome::Committed(record)) => {
            let state = known.state();
            state.draft = Draft::default();
            match of {
                // Nobody is left who could ask for the session.
                Of::Unseen(id) => shared.tell_origin(Origin::Restored, Some(&id)),
                Of::New { id, token, cookie } => state.install_new(id, token, record, cookie, None),
                Of::Loaded => {
                    if let Some(live) = &mut state.live {
                        live.record = record;
                    }
                }
            }
            Ok(())
        }
        Ok(outcome) => match (outcome, of) {
            (Outcome::Absent(absence), Of::Loaded) => {
                Err(known.state().lose(Lost::at_commit(absence)))
            }
            (Outcome::Absent(absence), Of::Unseen(_)) => {
                known.install(shared, Conclusion::absent(absence));
                let state = known.state();
                // Without a session there may be a new one.
                Err(state.give_up(state.lost?))
            }
            (Outcome::Exists, Of::New { .. }) => return None,
            _ => Err(broken_contract()),
        },
        Err(error) => Err(error),
    };
    let state = known.state();
    state.head_sent = true;
    let error = implicit_error(shared, committed, false);
    Some(Closing { error, ..close(shared, state, closed) })
}

fn close_now(shared: &Shared, state: &mut State, closed: Closed) -> Option<Closing> {
    drop_changes_of_failure(state, closed);
    let waits = !state.draft.is_empty()
        || state.staged.is_some()
        || (state.resign && matches!(state.cookie, CookieDue::None))
        || (shared.settings.create_always && !closed.failed && state.live.is_none());
    if waits {
        return None;
    }
    state.head_sent = true;
    Some(close(shared, state, closed))
}

fn close(shared: &Shared, state: &mut State, closed: Closed) -> Closing {
    if closed.is_activity
        && state.consulted
        && let Some(live) = &mut state.live
        && let Some(touched) = shared.touch(live, live.read_at)
    {
        live.record = touched;
    }
    let cookie = match std::mem::take(&mut state.cookie) {
        CookieDue::None => None,
        CookieDue::Delete => Some(ClosingCookie::Delete),
        CookieDue::Set(value) => {
            let max_age = state.max_age(&shared.settings, || shared.clock.now());
            Some(ClosingCookie::Set { value, max_age })
        }
    };
    Closing { consulted: state.consulted, cookie, error: None }
}

fn drop_changes_of_failure(state: &mut State, closed: Closed) {
    if !closed.failed {
        return;
    }
    if state.panicked || (state.staged.is_none() && !state.draft.is_empty()) {
        state.discard();
        let id = state.live.as_ref().map(|live| tracing::field::display(live.id));
        tracing::debug!(id, "session changes dropped: the response is an error");
    }
}

/// The error the response has to become. Nobody asked for an implicit commit, so that the end of
/// its session is nobody's error; what was staged was asked for.
fn implicit_error(shared: &Shared, committed: Result<()>, staged: bool) -> Option<Error> {
    let error = committed.err()?;
    if !staged && (error.is_gone() || error.is_superseded()) {
        shared.counters.count_dropped();
        tracing::debug!(%error, "session changes dropped");
        return None;
    }
    Some(error)
}
