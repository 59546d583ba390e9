//! What became of sessions, told to who asks: for an audit log, or to act on endings.
//!
//! A store tells what it did itself, once that is durable, in the order of its commits; one on a
//! server also what its like in other processes did, as they tell it. Nothing is made or kept while
//! nobody listens.

use std::sync::OnceLock;

use tokio::sync::broadcast::{self, error::RecvError};

use super::Write;
use crate::expiry::{Clock, Timestamp};
use crate::id::SessionId;
use crate::record::{EndedBy, Ending, Endings, Mark, Record};

/// Events held for a listener that is behind; older ones are missed.
const CAPACITY: usize = 4096;

/// What became of a session. Never holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When it was so, by the store's clock.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The session: the new one of a renewal. `None` for [`EventKind::EndedAll`] and
    /// [`EventKind::Missed`].
    pub id: Option<SessionId>,
    /// Its user; for [`EventKind::EndedAll`] the user whose sessions ended, or `None` if
    /// everyone's did.
    pub user: Option<Box<str>>,
    /// Its realm.
    pub realm: Option<Box<str>>,
}

/// The kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A session was created; with a user, if one signed in with it.
    Created,
    /// It has a new ID.
    Renewed {
        /// The one it had.
        former: SessionId,
        /// Whether a user signed in with that.
        signed_in: bool,
    },
    /// It is over.
    Ended {
        /// Who or what ended it. What a timeout ended is told when it is swept: an hour after its
        /// deadline, with the deadline as the event's time.
        by: EndedBy,
    },
    /// All sessions of a user are over, or everyone's. Each that there was is told as
    /// [`EventKind::Ended`] when the store comes to its row; one may have been spared.
    EndedAll {
        /// Who ended them.
        by: EndedBy,
    },
    /// The listener was too slow, and so many events are lost to it.
    Missed {
        /// How many; 0 if nobody knows, because the connection over which other processes tell
        /// theirs was broken.
        count: u64,
    },
}

impl EventKind {
    /// The word used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Renewed { .. } => "renewed",
            Self::Ended { .. } => "ended",
            Self::EndedAll { .. } => "ended_all",
            Self::Missed { .. } => "missed",
        }
    }
}

/// The events of a store from the call of [`SessionStore::events`](super::SessionStore::events)
/// on.
///
/// 4096 events are held for a listener that is behind. One that falls further back is told how many
/// it missed, in their place.
///
/// ```
/// use fastsession::{MemoryStore, Session, SessionStore, store::EventKind};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> fastsession::Result<()> {
/// # #[cfg(feature = "axum")] {
/// let store = MemoryStore::new()?;
/// let mut events = store.events().expect("this store tells them");
///
/// let session: Session = fastsession::testing::session(&store);
/// session.login("alice").await?;
/// session.save().await?;
///
/// let event = events.next().await.expect("the store lives");
/// assert_eq!(event.kind, EventKind::Created);
/// assert_eq!(event.user.as_deref(), Some("alice"));
/// # }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    clock: Clock,
}

impl Events {
    /// The next event; `None` once the store is gone.
    ///
    /// Cancel safe: an event is not lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(count)) => Some(Event {
                at: self.clock.now(),
                kind: EventKind::Missed { count },
                id: None,
                user: None,
                realm: None,
            }),
        }
    }
}

/// Where a store tells its events.
#[derive(Debug, Default)]
pub(crate) struct Hub(OnceLock<broadcast::Sender<Event>>);

impl Hub {
    pub(crate) fn subscribe(&self, clock: Clock) -> Events {
        let sender = self.0.get_or_init(|| broadcast::channel(CAPACITY).0);
        Events { receiver: sender.subscribe(), clock }
    }

    /// Somewhere to put events, if anybody listens.
    pub(crate) fn notes(&self) -> Notes {
        let heard = self.0.get().is_some_and(|sender| sender.receiver_count() > 0);
        Notes(heard.then(Vec::new))
    }

    /// Whether anybody listens.
    #[cfg(feature = "redis")]
    pub(crate) fn is_heard(&self) -> bool {
        self.0.get().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// To be called once what was noted is durable. Nobody is waited for, so that it may be under a
    /// lock that keeps what becomes of one session in its order.
    pub(crate) fn tell(&self, notes: Notes) {
        let Some(sender) = self.0.get() else { return };
        for event in notes.0.into_iter().flatten() {
            // The last listener may have gone meanwhile.
            let _ = sender.send(event);
        }
    }
}

/// Events of what is not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Notes(Option<Vec<Event>>);

impl Notes {
    /// Of events that others are told, whoever listens here.
    #[cfg(feature = "redis")]
    pub(crate) fn for_others() -> Self {
        Self(Some(Vec::new()))
    }

    /// What was noted.
    #[cfg(feature = "redis")]
    pub(crate) fn events(&self) -> &[Event] {
        self.0.as_deref().unwrap_or_default()
    }

    /// What somebody else noted.
    #[cfg(feature = "redis")]
    pub(crate) fn of(events: Vec<Event>) -> Self {
        Self(Some(events))
    }

    /// What these rows, written in one step, come to.
    pub(crate) fn wrote<'a>(&mut self, writes: impl Iterator<Item = &'a Write> + Clone) {
        let Some(events) = &mut self.0 else { return };
        let formers = writes.clone();
        for write in writes {
            let former = formers.clone().find(|former| supersedes(former, write));
            events.extend(written(write, former));
        }
    }

    /// What the removal of this row comes to.
    pub(crate) fn removed(&mut self, id: &SessionId, record: &Record, endings: &Endings) {
        let Some(events) = &mut self.0 else { return };
        if record.mark() == Mark::None {
            let timeout = (record.expires_at(), EndedBy::Timeout);
            let ending = endings.ending(record.generation());
            let (at, by) = ending.map_or(timeout, |ending| (ending.at, ending.by));
            events.push(of(id, record, at, EventKind::Ended { by }));
        }
    }

    /// All sessions of `user` are over, or everyone's.
    pub(crate) fn ended_all(&mut self, user: Option<&str>, ending: &Ending) {
        let Some(events) = &mut self.0 else { return };
        let kind = EventKind::EndedAll { by: ending.by };
        let user = user.map(Into::into);
        events.push(Event { at: ending.at, kind, id: None, user, realm: None });
    }
}

/// Whether `former` made room for the session that `write` writes.
fn supersedes(former: &Write, write: &Write) -> bool {
    matches!(former.after.mark(), Mark::Superseded { successor, .. } if successor == write.id)
}

fn written(write: &Write, former: Option<&Write>) -> Option<Event> {
    let Write { id, before, after } = write;
    let (at, kind) = match (before, after.mark(), former) {
        (None, Mark::None, None) => (after.created_at(), EventKind::Created),
        (None, Mark::None, Some(former)) => {
            let before = former.before.as_ref().and_then(Record::authenticated_at);
            let signed_in = after.authenticated_at() != before;
            (after.last_seen_at(), EventKind::Renewed { former: former.id, signed_in })
        }
        (Some(before), Mark::Ended { at, by, .. }, _) if before.mark() == Mark::None => {
            (at, EventKind::Ended { by })
        }
        _ => return None,
    };
    Some(of(id, after, at, kind))
}

fn of(id: &SessionId, record: &Record, at: Timestamp, kind: EventKind) -> Event {
    let (user, realm) = (record.user().map(Into::into), record.realm().map(Into::into));
    Event { at, kind, id: Some(*id), user, realm }
}
