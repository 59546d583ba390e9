//! Saving, renewing, signing in; sessions without a request.

use std::sync::Arc;

use super::commit::Head;
use super::shared::Shared;
use super::state::{Live, Staged, State, Token, too_late};
use super::{Inner, Known, Realm, Session, Settings};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::origin::Origin;
use crate::record::MAX_USER_BYTES;
use crate::store::{Loaded, SessionStore};

impl Inner {
    async fn save(&self) -> Result<()> {
        drop(self.loaded().await?);
        let _turn = self.turn.lock().await;
        Box::pin(self.commit_pending(Head::AsKnown)).await
    }

    async fn renew(&self) -> Result<()> {
        let mut state = self.loaded().await?;
        if let Some(lost) = state.lost {
            return Err(lost.error());
        }
        if state.head_sent {
            return Err(too_late());
        }
        if state.live.is_some() && state.staged.is_none() {
            state.staged = Some(Staged { user: None, token: None });
        }
        Ok(())
    }

    async fn login(&self, user: Box<str>) -> Result<()> {
        if user.len() > MAX_USER_BYTES {
            let message = format!("a user has at most {MAX_USER_BYTES} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        let mut state = self.loaded().await?;
        if state.head_sent {
            return Err(too_late());
        }
        if state.user().is_some_and(|former| *former != *user) {
            state.discard();
        }
        // A token that was tried for somebody else may have signed them in.
        let token = state
            .staged
            .take()
            .filter(|staged| staged.user.as_deref() == Some(&user))
            .and_then(|staged| staged.token);
        state.staged = Some(Staged { user: Some(user), token });
        Ok(())
    }
}

impl<R: Realm> Session<R> {
    /// Commits everything pending now, a staged [`renew`](Self::renew) or
    /// [`login`](Self::login) included. Their cookie goes on whatever response the layer sees.
    ///
    /// `is_gone()` or `is_superseded()` if the session ended meanwhile, `is_too_many_sessions()` if
    /// a cap refuses the login: what was pending is dropped then. With any other error it stays
    /// pending, so with `is_too_large()`, if the data would be more than allowed.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// session.insert("step", &2).await?;
    /// session.save().await?; // durable from here on
    /// # Ok(()) }
    /// ```
    pub async fn save(&self) -> Result<()> {
        self.inner.save().await
    }

    /// Records activity now, unless some was recorded within the touch interval.
    ///
    /// Reading the session in a handler is activity by itself. This is for what goes on without
    /// requests, such as messages on a WebSocket.
    pub async fn touch(&self) -> Result<()> {
        let mut state = self.inner.loaded().await?;
        if let Some(live) = &mut state.live
            && let Some(touched) = self.inner.shared.touch(live, self.inner.shared.access().at)
        {
            live.record = touched;
        }
        Ok(())
    }

    /// Moves the session to a new token when the response leaves, on a 5xx too: the old one is
    /// dead then. For every change of privilege; [`login`](Self::login) does it by itself.
    ///
    /// Does nothing for a visitor without a session. `is_too_late()` after the response head,
    /// `is_superseded()` or `is_gone()` if the session is over; if that shows only when the
    /// response leaves, the response becomes the error's. [`save`](Self::save) to know it before.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// session.insert("is_admin", &true).await?;
    /// session.renew().await?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "cycle_id")]
    #[doc(alias = "regenerate")]
    pub async fn renew(&self) -> Result<()> {
        self.inner.renew().await
    }

    /// Signs `user` in when the response leaves, on a 5xx too: a new token, the user bound to
    /// the session, a fresh absolute timeout. Values of the anonymous visitor stay; if another
    /// user was signed in, their values and label are dropped, those set by this request before
    /// included. A visitor without a session, or whose session is over, gets a new one.
    ///
    /// Nothing happens if the handler panics or the client hangs up. If the commit fails, the
    /// response becomes the error's: so with `is_too_many_sessions()` where a cap refuses.
    /// [`save`](Self::save) to know it before. `is_too_late()` after the response head;
    /// `is_too_large()` if `user` has more than 1024 bytes.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// // After the password was checked:
    /// session.login("alice").await?;
    /// # Ok(()) }
    /// ```
    pub async fn login(&self, user: impl Into<Box<str>>) -> Result<()> {
        self.inner.login(user.into()).await
    }
}

impl Session {
    /// The session of `id`, of whatever realm, for work that goes on without a request.
    /// Changes are to be [`save`](Self::save)d; with them the data may have 64 KiB, whatever a
    /// layer's own bound. They keep nobody's session alive: activity is a request, or a
    /// [`touch`](Self::touch).
    ///
    /// `is_not_found()` if there is no live session of that ID. Renewing it or signing in is
    /// `is_too_late()`, since no response will carry the cookie.
    ///
    /// ```
    /// # async fn demo(store: fastsession::MemoryStore, id: fastsession::SessionId)
    /// # -> fastsession::Result<()> {
    /// use fastsession::Session;
    /// let session = Session::by_id(&store, id).await?;
    /// session.update("exports", |n: Option<u32>| n.unwrap_or(0) + 1).await?;
    /// # Ok(()) }
    /// ```
    pub async fn by_id<S: SessionStore + Clone>(store: &S, id: SessionId) -> Result<Self> {
        let shared = Shared::new(Settings::new(None), Arc::new(store.clone()));
        let record = match shared.load(&id).await? {
            Loaded::Live(record) => record,
            Loaded::Absent(_) => {
                return Err(Error::new(Kind::NotFound, "there is no live session of that ID"));
            }
        };
        let read_at = record.last_seen_at();
        let state = State {
            origin: Some(Origin::Restored),
            live: Some(Live::new(id, Token::Unknown, record, read_at)),
            head_sent: true,
            ..State::default()
        };
        let known = Known { state: Some(Box::new(state)), ..Known::default() };
        Ok(Self::from_inner(Arc::new(Inner::new(Arc::new(shared), known))))
    }
}
