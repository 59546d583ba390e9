//! What is known of the session beside its values.

use super::{Inner, Realm, Session};
use crate::error::{Error, Kind, Result};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::origin::Origin;
use crate::record::{MAX_LABEL_BYTES, Record};

impl Inner {
    /// Something of the stored record, if there is one.
    async fn of_record<T>(&self, read: impl FnOnce(&Record) -> T) -> Result<Option<T>> {
        Ok(self.loaded().await?.live.as_ref().map(|live| read(&live.record)))
    }
}

/// Metadata. What is staged by [`login`](Session::login) or [`renew`](Session::renew) shows in
/// [`user`](Session::user) and [`label`](Session::label) at once, in the rest once committed.
impl<R: Realm> Session<R> {
    /// The session's ID, `None` if there is no session (yet). For logs and for the operator; it
    /// opens nothing, and a renewal changes it.
    pub async fn id(&self) -> Result<Option<SessionId>> {
        Ok(self.inner.loaded().await?.live.as_ref().map(|live| live.id))
    }

    /// Whether the request brought a session, and if not, why.
    pub async fn origin(&self) -> Result<Origin> {
        Ok(self.inner.loaded().await?.origin.unwrap_or(Origin::New))
    }

    /// Who is signed in.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// if session.user().await?.is_none() { /* send to the login page */ }
    /// # Ok(()) }
    /// ```
    pub async fn user(&self) -> Result<Option<String>> {
        Ok(self.inner.loaded().await?.user().map(Into::into))
    }

    /// What [`set_label`](Self::set_label) set.
    pub async fn label(&self) -> Result<Option<String>> {
        Ok(self.inner.loaded().await?.label().map(Into::into))
    }

    /// Sets what the application shows a person to recognise the session by, such as "Firefox,
    /// 203.0.113.7". At most 256 bytes, else `is_too_large()`.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// session.login("alice").await?;
    /// session.set_label("Firefox, 203.0.113.7").await?;
    /// # Ok(()) }
    /// ```
    pub async fn set_label(&self, label: &str) -> Result<()> {
        if label.len() > MAX_LABEL_BYTES {
            let message = format!("a label has at most {MAX_LABEL_BYTES} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        self.inner.loaded().await?.edit()?.label = Some(Some(label.into()));
        Ok(())
    }

    /// Gives the session timeouts of its own, in place of the layer's, and keeps its cookie when
    /// the browser closes: "remember me". The absolute timeout counts from the login.
    ///
    /// A later [`login`](Self::login) forgets them.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// use fastsession::Timeouts;
    /// session.login("alice").await?;
    /// session.remember(Timeouts::AAL1).await?;
    /// # Ok(()) }
    /// ```
    pub async fn remember(&self, timeouts: Timeouts) -> Result<()> {
        self.inner.loaded().await?.edit()?.remember = Some(timeouts);
        Ok(())
    }

    /// When the session was created. A renewal keeps it.
    pub async fn created_at(&self) -> Result<Option<Timestamp>> {
        self.inner.of_record(Record::created_at).await
    }

    /// When its user signed in.
    pub async fn authenticated_at(&self) -> Result<Option<Timestamp>> {
        Ok(self.inner.of_record(Record::authenticated_at).await?.flatten())
    }

    /// When activity was last recorded, before this request.
    pub async fn last_seen_at(&self) -> Result<Option<Timestamp>> {
        self.inner.of_record(Record::last_seen_at).await
    }

    /// When it is over without further activity.
    pub async fn expires_at(&self) -> Result<Option<Timestamp>> {
        let timeouts = self.inner.shared.settings.timeouts;
        self.inner
            .of_record(|record| match &timeouts {
                Some(timeouts) => record.expires_at_under(timeouts),
                None => record.expires_at(),
            })
            .await
    }
}
