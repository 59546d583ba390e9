//! Reading and changing values.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Held, Inner, Realm, Session};
use crate::error::{Error, Kind, Result};
use crate::value;

impl Inner {
    /// Encodes a value, and refuses one that no session could hold.
    pub(super) fn encode<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Vec<u8>> {
        let encoded = value::encode(key, value)?;
        let (size, max) = (key.len() + encoded.len(), self.shared.settings.max_data_bytes);
        if size > max {
            let message = format!("the value of {key:?} has {size} bytes, a session at most {max}");
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(encoded)
    }

    /// The state, if the response head is still to leave.
    fn unsent(&self) -> Option<Held<'_>> {
        Some(self.state()).filter(|state| !state.head_sent)
    }

    async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        // Taken out, so that no code of the application's runs under the lock.
        let seen = self.loaded().await?.seen(key);
        seen.value(key).map(|bytes| value::decode(key, bytes)).transpose()
    }

    async fn insert<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        let encoded = self.encode(key, value)?;
        // What depends on nothing that is stored needs no look at the cookie before the commit.
        let mut state = if let Some(state) = self.unsent() { state } else { self.loaded().await? };
        state.consulted |= !state.head_sent;
        if state.origin.is_none() && state.changed_at.is_none() {
            state.changed_at = Some(self.shared.clock.now());
        }
        state.edit()?.changes.set(key, encoded)
    }
}

/// Values. Keys have at most 256 bytes, all values of a session together 64 KiB unless configured.
///
/// Every method fails if the store does (503 by default), but for `insert`, which does not ask it
/// before the response head has left.
impl<R: Realm> Session<R> {
    /// The value of `key`, `None` if there is none.
    ///
    /// `is_decode()` if it has another shape than `T`; it stays as it is.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// let theme: Option<String> = session.get("theme").await?;
    /// # Ok(()) }
    /// ```
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.inner.get(key).await
    }

    /// The value of `key`, or `T::default()` if there is none, which is not stored.
    ///
    /// `is_decode()` if it has another shape than `T`.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// let cart: Vec<u64> = session.get_or_default("cart").await?;
    /// # Ok(()) }
    /// ```
    pub async fn get_or_default<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T> {
        Ok(self.get(key).await?.unwrap_or_default())
    }

    /// The value of `key`; if there is none, that of `f`, which is stored.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// let variant = session.get_or_insert_with("variant", || 'b').await?;
    /// # Ok(()) }
    /// ```
    pub async fn get_or_insert_with<T, F>(&self, key: &str, f: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        if let Some(value) = self.get(key).await? {
            return Ok(value);
        }
        let value = f();
        // Encoded before anything is awaited, so that `T` need not be `Send`.
        let encoded = self.inner.encode(key, &value)?;
        self.inner.state().edit()?.changes.set(key, encoded)?;
        Ok(value)
    }

    /// Sets `key`, to be committed with the response. A request that does nothing else with the
    /// session goes to the store once, for that commit; if it fails, the response becomes the
    /// error's.
    ///
    /// `is_encode()` if the value would not come back the same, `is_too_large()` if key or value
    /// are beyond their bounds; nothing is changed then. A visitor without a session gets one,
    /// which after the response head is `is_too_late()`.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// session.insert("theme", "dark").await?;
    /// # Ok(()) }
    /// ```
    pub async fn insert<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.inner.insert(key, value).await
    }

    /// Removes `key` and says whether it was there. If it was not, nothing is changed.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// session.remove("theme").await?;
    /// # Ok(()) }
    /// ```
    pub async fn remove(&self, key: &str) -> Result<bool> {
        self.inner.loaded().await?.remove(key)
    }

    /// Removes `key` and returns its value: for messages shown once.
    ///
    /// `is_decode()` if it has another shape than `T`; it is not removed then.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// let message: Option<String> = session.take("flash").await?;
    /// # Ok(()) }
    /// ```
    pub async fn take<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.get(key).await?;
        self.inner.state().remove(key)?;
        Ok(value)
    }

    /// Whether `key` has a value, whatever its shape.
    pub async fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.inner.loaded().await?.value(key).is_some())
    }

    /// The keys that have a value, in order.
    pub async fn keys(&self) -> Result<Vec<String>> {
        Ok(self.inner.loaded().await?.keys())
    }

    /// Whether no key has a value.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.keys().await?.is_empty())
    }

    /// Removes every key. The session, its ID and its user stay.
    ///
    /// To sign somebody out use [`destroy`](Self::destroy).
    pub async fn clear(&self) -> Result<()> {
        self.inner.loaded().await?.clear()
    }

    /// Replaces the value of `key` by what `f` makes of it, commits that key at once and returns
    /// the value committed. However many requests, tasks and processes update a key, none of
    /// their updates is lost.
    ///
    /// `f` gets `None` if there is no value, and runs again if another writer came first. It
    /// sees what this request inserted earlier; changes of other keys stay pending. A
    /// [`renew`](Self::renew), [`login`](Self::login) or [`clear`](Self::clear) before it is
    /// committed first. A visitor without a session gets one, with this one value.
    ///
    /// `is_conflict()` if others keep coming first for 5 seconds, `is_gone()` or
    /// `is_superseded()` if there is no session any more, `is_too_late()` if one would have to be
    /// created after the response head; else it fails as [`get`](Self::get) and
    /// [`insert`](Self::insert) do. Nothing is changed then.
    ///
    /// ```
    /// # async fn demo(session: fastsession::Session) -> fastsession::Result<()> {
    /// let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    /// # Ok(()) }
    /// ```
    pub async fn update<T, F>(&self, key: &str, f: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> T,
    {
        self.inner.update(key, f).await
    }
}
