//! What a handle knows and has yet to do. Plain data and pure decisions, under one short lock.

use std::time::Duration;

use super::shared::Settings;
use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::id::{SessionId, SessionToken};
use crate::origin::Origin;
use crate::record::{Absence, Data, Record};
use crate::store::Draft;

/// What a handle knows and has yet to do.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not the state of a machine")]
pub(crate) struct State {
    /// Whether the request has a cookie of the session's name.
    pub(crate) client_has_cookie: bool,
    /// Set once the carried cookie has been looked at.
    pub(crate) origin: Option<Origin>,
    /// The session in the store. Implies that `lost` is `None`.
    pub(crate) live: Option<Live>,
    /// Why writes are refused though there is no session.
    pub(crate) lost: Option<Lost>,
    /// The session that was lost, whose end may still be waited for under another ID.
    pub(crate) lost_id: Option<SessionId>,
    pub(crate) draft: Draft,
    /// When `draft` was begun, if nobody had looked at the cookie by then.
    pub(crate) changed_at: Option<Timestamp>,
    /// Counts the changes of `draft`, so that a commit knows whether it took all of it.
    pub(crate) draft_version: u64,
    pub(crate) staged: Option<Staged>,
    /// Create a session even if it is empty.
    pub(crate) create_empty: bool,
    pub(crate) cookie: CookieDue,
    /// The cookie was signed with a retiring key.
    pub(crate) resign: bool,
    pub(crate) head_sent: bool,
    /// A handle was dropped by a panic.
    pub(crate) panicked: bool,
    /// The response depends on the cookie, because somebody asked for the session.
    pub(crate) consulted: bool,
}

/// A session in the store.
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) token: Token,
    pub(crate) record: Record,
    /// When this request came to it, which is its activity.
    pub(crate) read_at: Timestamp,
    /// The store was asked for a commit and has not said what became of it, so that more may be
    /// stored than `record` has.
    pub(crate) in_doubt: bool,
}

impl Live {
    pub(crate) fn new(id: SessionId, token: Token, record: Record, read_at: Timestamp) -> Self {
        Self { id, token, record, read_at, in_doubt: false }
    }
}

/// Where the token of a session is.
pub(crate) enum Token {
    /// Nowhere: nobody came with one.
    Unknown,
    /// In what the request carried. It is read there again if it is needed, which hardly ever
    /// happens: there is one copy less of it in memory.
    Carried,
    /// Made for this request's response.
    New(SessionToken),
}

/// The encoded value of a key, to be decoded after the lock was given up.
pub(crate) enum Seen {
    None,
    /// One that is sooner copied than counted.
    Short {
        len: usize,
        bytes: [u8; SHORT],
    },
    Long(Box<[u8]>),
    /// Whatever the record has.
    Stored(Record),
}

/// Numbers and short texts, which most values are.
const SHORT: usize = 32;

impl Seen {
    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Short { len, bytes } => Some(&bytes[..*len]),
            Self::Long(value) => Some(value),
            Self::Stored(record) => record.data().get(key),
        }
    }

    fn short(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self::Short { len: value.len(), bytes })
    }
}

/// A session this handle must not write to, nor replace.
#[derive(Clone, Copy)]
pub(crate) enum Lost {
    /// Ended, expired or purged after it was loaded.
    Gone,
    /// Renewed, or destroyed before it was loaded, by a request running beside this one.
    Superseded,
}

impl Lost {
    pub(crate) fn error(self) -> Error {
        match self {
            Self::Gone => Error::new(Kind::Gone, "the session has ended"),
            Self::Superseded => Error::new(
                Kind::Superseded,
                "the session was renewed or destroyed by a request running beside this one",
            ),
        }
    }

    /// What an absence that a load found forbids: to a request that runs beside what ended the
    /// session, any cookie, since it could overwrite the new one.
    pub(crate) fn at_load(absence: Absence) -> Option<Self> {
        match absence {
            Absence::Superseded { .. } | Absence::Ended { concurrent: true, .. } => {
                Some(Self::Superseded)
            }
            _ => None,
        }
    }

    /// What the absence of a session that was live when it was loaded comes to.
    pub(crate) fn at_commit(absence: Absence) -> Self {
        match absence {
            Absence::Superseded { .. } => Self::Superseded,
            _ => Self::Gone,
        }
    }
}

/// A renewal to be committed before the head leaves.
pub(crate) struct Staged {
    /// Who signs in with it.
    pub(crate) user: Option<Box<str>>,
    /// The new token. Kept over a commit of unknown outcome, so that the next try recognises its
    /// own success.
    pub(crate) token: Option<SessionToken>,
}

/// The cookie that the response is to carry.
#[derive(Default)]
pub(crate) enum CookieDue {
    #[default]
    None,
    /// Sealed as soon as it could be, so that nothing fails once the session is durable.
    Set(String),
    Delete,
}

/// The next commit to make.
pub(crate) enum Step {
    Create { draft: Draft, user: Option<Box<str>> },
    Renew { id: SessionId, token: SessionToken, draft: Draft, user: Option<Box<str>> },
    Merge { id: SessionId, draft: Draft },
}

impl State {
    /// The user once everything staged is committed.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.staged {
            Some(Staged { user: Some(user), .. }) => Some(user),
            _ => self.live.as_ref().and_then(|live| live.record.user()),
        }
    }

    /// Whether a staged login drops what the record holds, since that is somebody else's.
    fn is_replaced(&self, record: &Record) -> bool {
        record.user().is_some_and(|former| self.user() != Some(former))
    }

    /// The record's data, without that which a staged login is going to drop.
    pub(crate) fn stored_data(&self) -> Data<'_> {
        match &self.live {
            Some(live) if !self.is_replaced(&live.record) => live.record.data(),
            _ => Data::EMPTY,
        }
    }

    pub(crate) fn label(&self) -> Option<&str> {
        if let Some(label) = &self.draft.label {
            return label.as_deref();
        }
        let record = &self.live.as_ref()?.record;
        if self.is_replaced(record) { None } else { record.label() }
    }

    /// The encoded value of `key` as this request sees it.
    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        match self.draft.changes.get(key) {
            Some(pending) => pending,
            None => self.stored_data().get(key),
        }
    }

    /// The same, without a reference to the state.
    pub(crate) fn seen(&self, key: &str) -> Seen {
        let Some(value) = self.value(key) else { return Seen::None };
        Seen::short(value).unwrap_or_else(|| match &self.live {
            Some(live) if self.draft.changes.get(key).is_none() => {
                Seen::Stored(live.record.clone())
            }
            _ => Seen::Long(value.into()),
        })
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self
            .stored_data()
            .iter()
            .map(|(key, _)| key)
            .filter(|key| self.draft.changes.get(key).is_none())
            .chain(self.draft.changes.iter().filter_map(|(key, value)| value.map(|_| key)))
            .map(Into::into)
            .collect();
        keys.sort_unstable();
        keys
    }

    /// The draft, to be changed. `is_too_late()` if there is no session and none can be made.
    pub(crate) fn edit(&mut self) -> Result<&mut Draft> {
        if self.head_sent && self.live.is_none() {
            return Err(self.lost.map_or_else(too_late, Lost::error));
        }
        self.draft_version += 1;
        Ok(&mut self.draft)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Result<bool> {
        if self.value(key).is_none() {
            return Ok(false);
        }
        let may_be_stored = self.is_in_doubt() || self.stored_data().get(key).is_some();
        let draft = self.edit()?;
        if may_be_stored {
            draft.changes.remove(key);
        } else {
            draft.changes.forget(key);
        }
        Ok(true)
    }

    pub(crate) fn clear(&mut self) -> Result<()> {
        let may_be_stored = self.is_in_doubt() || !self.stored_data().is_empty();
        if !may_be_stored && self.draft.changes.is_empty() {
            return Ok(());
        }
        let changes = &mut self.edit()?.changes;
        *changes = crate::record::Changes::new();
        if may_be_stored {
            changes.clear();
        }
        Ok(())
    }

    fn is_in_doubt(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.in_doubt)
    }

    /// A commit is about to be asked for. Says whether the session was in doubt before.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.live.as_mut().is_some_and(|live| std::mem::replace(&mut live.in_doubt, true))
    }

    /// A commit has failed. If that says what became of it, only what was in doubt before is.
    pub(crate) fn not_committed(&mut self, error: &Error, was_in_doubt: bool) {
        if let Some(live) = &mut self.live
            && !error.is_unknown_outcome()
        {
            live.in_doubt = was_in_doubt;
        }
    }

    /// The commit that is due, if any. `may_send` is false once no cookie can be sent.
    ///
    /// What can never be committed is dropped with the error that says so.
    pub(crate) fn next_step(&mut self, may_send: bool) -> Result<Option<Step>> {
        let Some(staged) = &self.staged else {
            return self.next_plain_step(may_send);
        };
        if !may_send {
            return Err(too_late());
        }
        let (draft, user) = (self.draft.clone(), staged.user.clone());
        match (&self.live, self.lost) {
            (Some(Live { token: Token::Unknown, .. }), _) => Err(too_late()),
            (Some(Live { id, .. }), _) => {
                let token = match &staged.token {
                    Some(token) => token.clone(),
                    None => SessionToken::in_shard_of(id)?,
                };
                let id = *id;
                self.staged = Some(Staged { user: user.clone(), token: Some(token.clone()) });
                Ok(Some(Step::Renew { id, token, draft, user }))
            }
            (None, Some(lost)) if user.is_none() => Err(self.give_up(lost)),
            (None, _) => Ok(Some(Step::Create { draft, user })),
        }
    }

    fn next_plain_step(&mut self, may_send: bool) -> Result<Option<Step>> {
        if self.draft.is_empty() && !self.create_empty {
            return Ok(None);
        }
        match (&self.live, self.lost) {
            (Some(_), _) if self.draft.is_empty() => Ok(None),
            (Some(live), _) => Ok(Some(Step::Merge { id: live.id, draft: self.draft.clone() })),
            (None, Some(lost)) => Err(self.give_up(lost)),
            (None, None) if !may_send => Err(too_late()),
            (None, None) => Ok(Some(Step::Create { draft: self.draft.clone(), user: None })),
        }
    }

    pub(super) fn give_up(&mut self, lost: Lost) -> Error {
        self.discard();
        lost.error()
    }

    /// Whether there is something pending for a session that was not looked for yet.
    pub(crate) fn is_unseen(&self) -> bool {
        self.origin.is_none() && !self.draft.is_empty()
    }

    /// Forgets everything pending.
    pub(crate) fn discard(&mut self) {
        self.draft = Draft::default();
        self.draft_version += 1;
        self.staged = None;
    }

    /// There is no session any more, and this handle must not make another.
    pub(crate) fn lose(&mut self, lost: Lost) -> Error {
        if let Some(live) = self.live.take() {
            self.lost_id = Some(live.id);
        }
        self.lost = Some(lost);
        self.cookie = CookieDue::None;
        self.give_up(lost)
    }

    /// Takes what was committed out of the draft; changes made meanwhile stay.
    pub(crate) fn settle(&mut self, committed: &Draft, version: u64) {
        if self.draft_version == version {
            self.draft = Draft::default();
            return;
        }
        self.draft.changes.settle(&committed.changes);
        if self.draft.label == committed.label {
            self.draft.label = None;
        }
        if self.draft.remember == committed.remember {
            self.draft.remember = None;
        }
    }

    /// The session is the one of `token` now, and `user` is signed in if it was a login. What a
    /// clone of the handle has staged meanwhile stays, for a token after this one.
    pub(crate) fn install_new(
        &mut self,
        id: SessionId,
        token: SessionToken,
        record: Record,
        cookie: String,
        user: Option<&str>,
    ) {
        tracing::debug!(%id, "session committed under a new ID");
        let read_at = record.last_seen_at();
        self.live = Some(Live::new(id, Token::New(token), record, read_at));
        self.lost = None;
        self.staged = self
            .staged
            .take()
            .filter(|staged| staged.user.as_deref() != user)
            .map(|staged| Staged { token: None, ..staged });
        self.create_empty = false;
        self.resign = false;
        self.cookie = CookieDue::Set(cookie);
    }

    /// How long the cookie of the session is to be kept: until the browser closes, if `None`.
    pub(crate) fn max_age(
        &self,
        settings: &Settings,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<Duration> {
        let record = &self.live.as_ref()?.record;
        let mut deadline = record.absolute_at();
        if !record.is_remembered() {
            if !settings.cookie.is_persistent() {
                return None;
            }
            let began = record.authenticated_at().unwrap_or(record.created_at());
            let configured = settings.timeouts.unwrap_or_default().absolute;
            deadline = deadline.min(began.saturating_add(configured));
        }
        Some(deadline.saturating_since(now()))
    }
}

pub(crate) fn too_late() -> Error {
    Error::new(
        Kind::TooLate,
        "the response head has left: no session can be created, renewed or signed in",
    )
}
