//! Ending this session, and others; waiting for the end.

use std::time::Duration;

use super::commit::Head;
use super::state::{CookieDue, Lost, State};
use super::{Inner, Realm, Session};
use crate::error::Result;
use crate::id::SessionId;
use crate::origin::Origin;
use crate::record::{Absence, EndedBy};
use crate::store::{Expired, Loaded, Op, Outcome, Selector, Summary, expire, sessions_of};

/// How often [`Session::ended`] looks.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A session that somebody is signed in with.
struct Me {
    id: SessionId,
    user: Box<str>,
    realm: Option<Box<str>>,
}

impl Inner {
    async fn destroy(&self) -> Result<()> {
        drop(self.loaded().await?);
        let _turn = self.turn.lock().await;
        let id = {
            let state = self.state();
            match (&state.live, state.lost) {
                (Some(live), _) => Some(live.id),
                // Its successor lives on: to call that a logout would be a lie.
                (None, Some(Lost::Superseded)) if !state.was_ended() => {
                    return Err(Lost::Superseded.error());
                }
                (None, _) => None,
            }
        };
        let owns_cookie = match id {
            Some(id) => self.end(id).await?,
            None => self.state().owns_cookie(),
        };
        self.state().begin_anew(owns_cookie);
        Ok(())
    }

    /// Ends the session and says whether its cookie is still this response's to delete.
    async fn end(&self, id: SessionId) -> Result<bool> {
        let op = Op::End { by: EndedBy::Application, grace: self.shared.settings.grace };
        match self.shared.commit(id, op).await? {
            Outcome::Absent(Absence::Superseded { .. }) => Err(self.state().lose(Lost::Superseded)),
            Outcome::Absent(Absence::Ended { concurrent: true, .. }) => Ok(false),
            _ => Ok(true),
        }
    }

    /// The session of whoever is signed in, after committing what is staged.
    async fn me(&self) -> Result<Option<Me>> {
        drop(self.loaded().await?);
        let _turn = self.turn.lock().await;
        if self.state().staged.is_some() {
            self.commit_pending(Head::AsKnown).await?;
        }
        let state = self.state();
        Ok(state.live.as_ref().and_then(|live| {
            let user = live.record.user()?.into();
            Some(Me { id: live.id, user, realm: live.record.realm().map(Into::into) })
        }))
    }

    async fn destroy_others(&self) -> Result<Expired> {
        let Some(me) = self.me().await? else {
            return Ok(Expired::default());
        };
        let store = &*self.shared.store;
        let sessions = sessions_of(store, &me.user).await?;
        // One commit for all, where the user is known in this realm only.
        let others = if sessions.iter().all(|session| session.realm == me.realm) {
            Selector::user(me.user).except(me.id)
        } else {
            let here = sessions.iter().filter(|session| session.realm == me.realm);
            Selector::ids(here.map(|session| session.id)).except(me.id)
        };
        expire(store, others, EndedBy::Application).await
    }

    async fn siblings(&self) -> Result<Vec<Summary>> {
        let (user, own, realm) = {
            let state = self.loaded().await?;
            let Some(user) = state.user() else { return Ok(Vec::new()) };
            let live = state.live.as_ref();
            let realm = match live {
                Some(live) => live.record.realm().map(Box::<str>::from),
                None => self.shared.settings.realm.map(Into::into),
            };
            (Box::<str>::from(user), live.map(|live| live.id), realm)
        };
        let mut sessions = sessions_of(&*self.shared.store, &user).await?;
        sessions.retain(|session| Some(session.id) != own && session.realm == realm);
        Ok(sessions)
    }

    async fn ended(&self) {
        let mut watched = None;
        loop {
            if self.loaded().await.is_ok() {
                let id = watched.or_else(|| self.state().watchable());
                let Some(id) = id else { return };
                watched = Some(id);
                match self.shared.load(&id).await {
                    Ok(Loaded::Absent(Absence::Superseded { successor })) => {
                        watched = Some(successor);
                        continue;
                    }
                    Ok(Loaded::Absent(_)) => return,
                    // A store that is down ends nobody's session.
                    Ok(Loaded::Live(_)) | Err(_) => {}
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl State {
    /// The session whose end is this handle's, also after a write has found it renewed.
    fn watchable(&self) -> Option<SessionId> {
        self.live.as_ref().map(|live| live.id).or(self.lost_id)
    }

    /// Whether the session is known to have ended, rather than to have been replaced.
    fn was_ended(&self) -> bool {
        self.origin == Some(Origin::Ended)
    }

    /// Without a session, whether the cookie is this response's to delete: not if another response
    /// may be setting it.
    fn owns_cookie(&self) -> bool {
        match self.lost {
            None => true,
            // It ended while this request was about to change it, unasked by one beside it.
            Some(Lost::Gone) => self.was_ended(),
            Some(Lost::Superseded) => false,
        }
    }

    /// The handle of a visitor who has no session; one that may make a new one only if the cookie
    /// is this response's to set.
    fn begin_anew(&mut self, owns_cookie: bool) {
        self.discard();
        self.live = None;
        self.resign = false;
        self.cookie = CookieDue::None;
        if !owns_cookie {
            self.lost.get_or_insert(Lost::Superseded);
            return;
        }
        self.lost = None;
        if self.client_has_cookie && !self.head_sent {
            self.cookie = CookieDue::Delete;
        }
    }
}

impl<R: Realm> Session<R> {
    /// Ends the session, durably when this returns: logout. Its token is dead, the response
    /// deletes the cookie, and the handle is that of a new anonymous visitor.
    ///
    /// What is pending is dropped. If there is no session, this is done already. An error means
    /// that the session may still live, and leaves the cookie alone: `is_superseded()` if it was
    /// renewed by a request running beside this one, so that it lives on under another token.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// session.destroy().await?;
    /// session.insert("flash", "You are signed out.").await?; // in a new session
    /// # Ok(()) }
    /// ```
    #[doc(alias = "logout")]
    #[doc(alias = "invalidate")]
    #[doc(alias = "flush")]
    pub async fn destroy(&self) -> Result<()> {
        self.inner.destroy().await
    }

    /// Ends all other sessions of this session's user in this realm: after a change of the
    /// password. (`store.expire(Selector::user(..))` ends those of every realm.) A staged [`login`](Self::login) or [`renew`](Self::renew) is committed first.
    /// Does nothing if nobody is signed in.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// session.renew().await?;
    /// session.destroy_others().await?;
    /// # Ok(()) }
    /// ```
    pub async fn destroy_others(&self) -> Result<Expired> {
        Box::pin(self.inner.destroy_others()).await
    }

    /// The other live sessions of this session's user in this realm: "your devices". Empty if
    /// nobody is signed in.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// for device in session.siblings().await? {
    ///     println!("{}", device.label.as_deref().unwrap_or("unknown"));
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn siblings(&self) -> Result<Vec<Summary>> {
        Box::pin(self.inner.siblings()).await
    }

    /// Waits for the end of the session, whoever ends it and however, and returns within a
    /// second of it. A renewal is not an end, though this handle can then no longer write. Returns
    /// at once if there is no session.
    ///
    /// Needs a tokio runtime with its timer enabled.
    ///
    /// ```
    /// # async fn next_message() {}
    /// # async fn demo(session: fastsession::Session) {
    /// tokio::select! {
    ///     () = session.ended() => { /* close the socket */ }
    ///     _ = next_message() => { /* … */ }
    /// }
    /// # }
    /// ```
    pub async fn ended(&self) {
        self.inner.ended().await;
    }
}
