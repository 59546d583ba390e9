//! Which sessions, and what is told of each.

use std::time::Duration;

use crate::expiry::Timestamp;
use crate::id::{IdPrefix, SessionId};
use crate::record::{EndedBy, Endings, Mark, Record, State};

/// Which sessions to list or end. Conditions are combined with AND; without any, every live one.
///
/// ```
/// use fastsession::{Filter, Timestamp};
/// let stale = Filter::new().user("alice").idle_since(Timestamp::from_millis(0));
/// # let _ = stale;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    user: Option<Box<str>>,
    realm: Option<Box<str>>,
    anonymous: bool,
    idle_since: Option<Timestamp>,
    created_before: Option<Timestamp>,
    created_after: Option<Timestamp>,
    except: Vec<SessionId>,
    prefix: Option<IdPrefix>,
    states: Vec<State>,
}

impl Default for Filter {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter {
    /// Every live session.
    pub const fn new() -> Self {
        Self {
            user: None,
            realm: None,
            anonymous: false,
            idle_since: None,
            created_before: None,
            created_after: None,
            except: Vec::new(),
            prefix: None,
            states: Vec::new(),
        }
    }

    /// Of this user.
    #[must_use]
    pub fn user(mut self, user: impl Into<Box<str>>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Of this realm.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<Box<str>>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// Without a user.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Without activity since `at`. The store allows for activity it has not recorded yet, so
    /// that nobody who is clicking is selected.
    #[must_use]
    pub fn idle_since(mut self, at: Timestamp) -> Self {
        self.idle_since = Some(at);
        self
    }

    /// Created before `at`.
    #[must_use]
    pub fn created_before(mut self, at: Timestamp) -> Self {
        self.created_before = Some(at);
        self
    }

    /// Created at or after `at`.
    #[must_use]
    pub fn created_after(mut self, at: Timestamp) -> Self {
        self.created_after = Some(at);
        self
    }

    /// But not this one. May be called again for others.
    #[must_use]
    pub fn except(mut self, id: SessionId) -> Self {
        self.except.push(id);
        self
    }

    /// With an ID that begins like this.
    #[must_use]
    pub fn prefix(mut self, prefix: IdPrefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// In this state instead of live. May be called again for others.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.states.push(state);
        self
    }

    /// In any state.
    #[must_use]
    pub fn any_state(mut self) -> Self {
        self.states = vec![State::Live, State::Expired, State::Ended, State::Superseded];
        self
    }

    /// The user, if it is a condition and all that can match is in an index of the records that
    /// have a [`Record::listed_user`]: a store with that index starts there. What was ended may be
    /// anywhere among the others.
    pub fn listed_user(&self) -> Option<&str> {
        let marked = [State::Ended, State::Superseded];
        self.user.as_deref().filter(|_| !marked.iter().any(|state| self.states.contains(state)))
    }

    /// The user, if it is a condition.
    pub(crate) fn wanted_user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The smallest and the largest ID that can match.
    pub fn id_range(&self) -> (SessionId, SessionId) {
        match &self.prefix {
            Some(prefix) => prefix.range(),
            None => (SessionId::from_bytes([0; 32]), SessionId::from_bytes([0xff; 32])),
        }
    }

    /// What is left of the filter beside its user and exceptions.
    pub(crate) fn is_user_only(&self) -> bool {
        let rest = Self { user: None, except: Vec::new(), ..self.clone() };
        rest == Self::new() || rest == Self::new().state(State::Live)
    }

    pub(crate) fn exceptions(&self) -> &[SessionId] {
        &self.except
    }

    /// Whether a record matches at `at`. `touch_interval` is how long activity may have gone
    /// unrecorded.
    pub fn matches(
        &self,
        id: &SessionId,
        record: &Record,
        endings: &Endings,
        at: Timestamp,
        touch_interval: Duration,
    ) -> bool {
        self.matches_in(record.state(at, endings), id, record, touch_interval)
    }

    /// The same where its state is known.
    pub(crate) fn matches_in(
        &self,
        state: State,
        id: &SessionId,
        record: &Record,
        touch_interval: Duration,
    ) -> bool {
        let seen_at_latest = || record.last_seen_at().saturating_add(touch_interval);
        let in_range = || (self.id_range().0..=self.id_range().1).contains(id);
        let wanted_state = if self.states.is_empty() {
            state == State::Live
        } else {
            self.states.contains(&state)
        };
        wanted_state
            && (self.prefix.is_none() || in_range())
            && self.user.as_deref().is_none_or(|user| record.user() == Some(user))
            && self.realm.as_deref().is_none_or(|realm| record.realm() == Some(realm))
            && (!self.anonymous || record.user().is_none())
            && self.idle_since.is_none_or(|since| seen_at_latest() < since)
            && self.created_before.is_none_or(|before| record.created_at() < before)
            && self.created_after.is_none_or(|after| record.created_at() >= after)
            && !self.except.contains(id)
    }
}

/// What is told of a session without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Its ID.
    pub id: SessionId,
    /// The user bound at login.
    pub user: Option<Box<str>>,
    /// What the application shows a person.
    pub label: Option<Box<str>>,
    /// Which layer it belongs to.
    pub realm: Option<Box<str>>,
    /// Whether it lives.
    pub state: State,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its user signed in.
    pub authenticated_at: Option<Timestamp>,
    /// When activity was last recorded.
    pub last_seen_at: Timestamp,
    /// When it is over without further activity.
    pub expires_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What ended it.
    pub ended_by: Option<EndedBy>,
    /// Bytes of metadata and data.
    pub size_bytes: usize,
}

impl Summary {
    /// The summary of `record` at `at`.
    pub fn new(id: SessionId, record: &Record, endings: &Endings, at: Timestamp) -> Self {
        Self::in_state(record.state(at, endings), id, record, endings)
    }

    /// The same where its state is known.
    pub(crate) fn in_state(
        state: State,
        id: SessionId,
        record: &Record,
        endings: &Endings,
    ) -> Self {
        let (ended_at, ended_by) = match (record.mark(), endings.ending(record.generation())) {
            (Mark::Ended { at, by, .. }, _) => (Some(at), Some(by)),
            (Mark::Superseded { at, .. }, _) => (Some(at), None),
            (Mark::None, Some(ending)) => (Some(ending.at), Some(ending.by)),
            (Mark::None, None) if state == State::Expired => {
                (Some(record.expires_at()), Some(EndedBy::Timeout))
            }
            (Mark::None, None) => (None, None),
        };
        Self {
            id,
            user: record.user().map(Into::into),
            label: record.label().map(Into::into),
            realm: record.realm().map(Into::into),
            state,
            created_at: record.created_at(),
            authenticated_at: record.authenticated_at(),
            last_seen_at: record.last_seen_at(),
            expires_at: record.expires_at(),
            ended_at,
            ended_by,
            size_bytes: record.size_bytes(),
        }
    }
}
