//! Carrying out what is pending, one step at a time.
//!
//! A handle's commits take turns (`Inner::turn`), so that two clones never create two sessions
//! for one visitor. A commit works on a copy of the draft and takes out of the draft what was
//! committed: a commit that fails, or whose future is dropped, leaves everything pending.
//!
//! A session that had ended when the commit came answers `is_gone()`, whoever ended it and
//! however long ago; one that was renewed answers `is_superseded()`.

use super::Inner;
use super::shared::broken_contract;
use super::state::{CookieDue, Lost, Step};
use crate::error::{Error, Kind, Result};
use crate::id::{SessionId, SessionToken};
use crate::keyring::seal;
use crate::record::{Absence, Record};
use crate::store::{Draft, Loaded, Login, Op, Outcome};

/// How often a new token may meet an existing record before the generator is taken for broken.
const COLLISIONS: usize = 3;

/// Whether the response that is to carry the cookie is still to leave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// As the handle's state says.
    AsKnown,
    /// It waits for this very commit.
    Waiting,
}

impl Inner {
    /// Commits everything pending. To be called by whoever has the turn.
    ///
    /// A login that a cap refuses is not tried again, and what was to go into the user's session
    /// does not go into the visitor's.
    pub(super) async fn commit_pending(&self, head: Head) -> Result<()> {
        if self.state().is_unseen() {
            drop(self.loaded().await?);
        }
        let committed = self.commit_steps(head).await;
        if committed.as_ref().is_err_and(Error::is_too_many_sessions) {
            self.state().discard();
        }
        committed
    }

    async fn commit_steps(&self, head: Head) -> Result<()> {
        for _ in 0..COLLISIONS {
            let (step, version, may_send, was_in_doubt) = {
                let mut state = self.state();
                let may_send = head == Head::Waiting || !state.head_sent;
                let Some(step) = state.next_step(may_send)? else { return Ok(()) };
                (step, state.draft_version, may_send, state.hand_over())
            };
            let done = match step {
                Step::Merge { id, draft } => self.merge(id, draft, version, may_send).await,
                Step::Create { draft, user } => self.create(draft, Some(version), user).await,
                Step::Renew { id, token, draft, user } => {
                    Box::pin(self.renew_to(id, token, draft, version, user)).await
                }
            };
            if done.inspect_err(|error| self.state().not_committed(error, was_in_doubt))? {
                return Ok(());
            }
        }
        Err(collided())
    }

    async fn merge(
        &self,
        id: SessionId,
        draft: Draft,
        version: u64,
        may_send: bool,
    ) -> Result<bool> {
        // The cookie of a session that is remembered from now on becomes a persistent one.
        let persists = may_send && draft.remember.is_some();
        let cookie = if persists { self.own_cookie().await? } else { None };
        match self.shared.commit(id, Op::Merge(draft.clone())).await? {
            Outcome::Committed(record) => {
                let mut state = self.state();
                state.settle(&draft, version);
                if let Some(live) = &mut state.live {
                    live.record = record;
                    live.in_doubt = false;
                }
                if let Some(value) = cookie {
                    state.cookie = CookieDue::Set(value);
                }
                Ok(true)
            }
            Outcome::Absent(absence) => Err(self.state().lose(Lost::at_commit(absence))),
            _ => Err(broken_contract()),
        }
    }

    /// The cookie of the session, signed with the active key; `None` once the request is answered.
    pub(crate) async fn own_cookie(&self) -> Result<Option<String>> {
        let token = self.known.lock().token(&self.shared);
        match token {
            Some(token) => self.seal(&token).await.map(Some),
            None => Ok(None),
        }
    }

    async fn seal(&self, token: &SessionToken) -> Result<String> {
        Ok(seal(&self.shared.keys().await?, &self.shared.settings.scope, token))
    }

    /// `false` if the new token's ID has a record already. `version` is that of the draft, if this
    /// is what is pending.
    async fn create(
        &self,
        draft: Draft,
        version: Option<u64>,
        user: Option<Box<str>>,
    ) -> Result<bool> {
        let token = SessionToken::generate()?;
        let cookie = self.seal(&token).await?;
        let signs_in = user.clone();
        let op = Op::Create {
            realm: self.shared.settings.realm.map(Into::into),
            draft: draft.clone(),
            login: self.login_of(user),
        };
        let id = token.id();
        match self.shared.commit(id, op).await? {
            Outcome::Committed(record) => {
                let mut state = self.state();
                if let Some(version) = version {
                    state.settle(&draft, version);
                }
                state.install_new(id, token, record, cookie, signs_in.as_deref());
                Ok(true)
            }
            Outcome::Exists => Ok(false),
            _ => Err(broken_contract()),
        }
    }

    /// Creates a session that holds `draft` and nothing of what is pending.
    pub(super) async fn create_with(&self, draft: Draft) -> Result<()> {
        for _ in 0..COLLISIONS {
            if self.create(draft.clone(), None, None).await? {
                return Ok(());
            }
        }
        Err(collided())
    }

    /// `false` if there has to be another step: a collision, or a login that starts afresh.
    async fn renew_to(
        &self,
        id: SessionId,
        token: SessionToken,
        draft: Draft,
        version: u64,
        user: Option<Box<str>>,
    ) -> Result<bool> {
        let cookie = self.seal(&token).await?;
        let signs_in = user.clone();
        let new_id = token.id();
        let op = Op::Renew {
            new_id,
            draft: draft.clone(),
            login: self.login_of(user),
            grace: self.shared.settings.grace,
        };
        match self.shared.commit(id, op).await? {
            Outcome::Committed(record) => {
                let mut state = self.state();
                state.settle(&draft, version);
                state.install_new(new_id, token, record, cookie, signs_in.as_deref());
                Ok(true)
            }
            Outcome::Exists => {
                if let Some(staged) = &mut self.state().staged {
                    staged.token = None;
                }
                Ok(false)
            }
            Outcome::Absent(absence) => match self.earlier_try(&token, absence).await? {
                // How much of the draft it took is not known: all of it goes into the next step.
                Some(record) => {
                    let mut state = self.state();
                    state.install_new(new_id, token, record, cookie, signs_in.as_deref());
                    Ok(false)
                }
                None => self.renewal_lost(absence, signs_in.is_some()),
            },
            Outcome::Changed(_) => Err(broken_contract()),
        }
    }

    /// The renewed session, if an earlier try of the same renewal went through after all.
    async fn earlier_try(&self, token: &SessionToken, absence: Absence) -> Result<Option<Record>> {
        match absence {
            Absence::Superseded { successor } if successor == token.id() => {
                match self.shared.load(&successor).await? {
                    Loaded::Live(record) => Ok(Some(record)),
                    Loaded::Absent(_) => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// Signing in must not be lost: it starts a fresh session. Renewing what is gone is an error.
    fn renewal_lost(&self, absence: Absence, signs_in: bool) -> Result<bool> {
        let lost = Lost::at_commit(absence);
        let mut state = self.state();
        if !signs_in {
            return Err(state.lose(lost));
        }
        state.live = None;
        state.lost = Some(lost);
        Ok(false)
    }

    fn login_of(&self, user: Option<Box<str>>) -> Option<Login> {
        user.map(|user| Login { user, cap: self.shared.settings.cap })
    }
}

fn collided() -> Error {
    Error::new(Kind::Unavailable, "new session tokens keep meeting existing sessions")
}
