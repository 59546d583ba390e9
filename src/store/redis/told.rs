//! Events, told to this process' listeners and, over a channel of the server, to other processes.
//!
//! What is told is what a commit, an ending or a sweep wrote, after it was answered by the server
//! and off the caller's path. A channel keeps nothing: who is not connected misses it, and is told
//! that it missed something. Plain changes of data are no events, so that they publish nothing.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, Value};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use super::Shared;
use super::link::Kind;
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::random::fill_token;
use crate::record::EndedBy;
use crate::store::events::{Event, EventKind, Hub, Notes};

/// Events that wait to be published. More are not told to others.
const WAITING: usize = 4096;
/// Between two attempts to listen, and between two looks whether the connection still stands.
const PAUSE: Duration = Duration::from_secs(1);

/// Where events go, and come from.
#[derive(Default)]
pub(super) struct Told {
    hub: Hub,
    /// Tells this store's messages from others'.
    from: u64,
    waiting: Mutex<Vec<Event>>,
    waits: Notify,
    /// Held by whoever publishes.
    publishing: tokio::sync::Mutex<()>,
    listening: Mutex<bool>,
}

impl Told {
    pub(super) fn new() -> Self {
        let mut from = [0; 8];
        // Without it, what this store does is told twice.
        let _ = fill_token(&mut from);
        Self { from: u64::from_le_bytes(from), ..Self::default() }
    }
}

/// A message to other processes.
#[derive(Serialize, Deserialize)]
struct Message {
    from: u64,
    events: Vec<Line>,
}

/// An event, as it is sent.
#[derive(Serialize, Deserialize)]
struct Line {
    at: i64,
    /// `c`reated, `r`enewed, `e`nded, `a`ll ended.
    kind: char,
    by: Option<u8>,
    former: Option<[u8; SessionId::LEN]>,
    signed_in: bool,
    id: Option<[u8; SessionId::LEN]>,
    user: Option<Box<str>>,
    realm: Option<Box<str>>,
}

impl Line {
    fn new(event: &Event) -> Option<Self> {
        let (kind, by, former, signed_in) = match event.kind {
            EventKind::Created => ('c', None, None, false),
            EventKind::Renewed { former, signed_in } => {
                ('r', None, Some(*former.as_bytes()), signed_in)
            }
            EventKind::Ended { by } => ('e', Some(by.code()), None, false),
            EventKind::EndedAll { by } => ('a', Some(by.code()), None, false),
            EventKind::Missed { .. } => return None,
        };
        Some(Self {
            at: event.at.as_millis(),
            kind,
            by,
            former,
            signed_in,
            id: event.id.map(|id| *id.as_bytes()),
            user: event.user.clone(),
            realm: event.realm.clone(),
        })
    }

    fn event(self) -> Option<Event> {
        let by = self.by.and_then(EndedBy::from_code);
        let kind = match self.kind {
            'c' => EventKind::Created,
            'r' => EventKind::Renewed {
                former: SessionId::from_bytes(self.former?),
                signed_in: self.signed_in,
            },
            'e' => EventKind::Ended { by: by? },
            'a' => EventKind::EndedAll { by: by? },
            _ => return None,
        };
        Some(Event {
            at: Timestamp::from_millis(self.at),
            kind,
            id: self.id.map(SessionId::from_bytes),
            user: self.user,
            realm: self.realm,
        })
    }
}

impl Shared {
    /// Tells what was written, once the server has answered.
    pub(super) fn tell(&self, note: impl FnOnce(&mut Notes)) {
        let mut notes = Notes::for_others();
        note(&mut notes);
        if notes.events().is_empty() {
            return;
        }
        let mut waiting = self.told.waiting.lock();
        if waiting.len() < WAITING {
            waiting.extend_from_slice(notes.events());
        }
        drop(waiting);
        self.told.waits.notify_one();
        self.told.hub.tell(notes);
    }

    /// Listens to this store, and to others on the same sessions.
    pub(super) fn subscribe(self: &Arc<Self>) -> crate::store::Events {
        let events = self.told.hub.subscribe(self.config.clock.clone());
        let mut listening = self.told.listening.lock();
        if !*listening {
            *listening = true;
            self.runtime.spawn(listen(self.clone()));
        }
        events
    }

    /// Publishes what is told, as it is told.
    pub(super) async fn publish(self: Arc<Self>) {
        loop {
            self.told.waits.notified().await;
            self.publish_waiting().await;
        }
    }

    /// Publishes what waits.
    pub(super) async fn publish_waiting(&self) {
        let _turn = self.told.publishing.lock().await;
        let events = std::mem::take(&mut *self.told.waiting.lock());
        if !events.is_empty() {
            self.publish_some(&events).await;
        }
    }

    async fn publish_some(&self, events: &[Event]) {
        let events = events.iter().filter_map(Line::new).collect();
        let message = Message { from: self.told.from, events };
        // Strings, numbers and bytes: nothing in it can fail to be encoded.
        let Ok(message) = rmp_serde::to_vec(&message) else { return };
        let mut command = ::redis::cmd("PUBLISH");
        command.arg(self.keys.channel()).arg(message);
        if let Err(error) = self.link.ask(&command, Kind::Read, self.link.until()).await {
            tracing::warn!(%error, "events were not told to other processes");
        }
    }

    fn hear(&self, message: &[u8]) {
        let Ok(message) = rmp_serde::from_slice::<Message>(message) else { return };
        if message.from != self.told.from {
            let events = message.events.into_iter().filter_map(Line::event).collect();
            self.told.hub.tell(Notes::of(events));
        }
    }

    fn tell_missed(&self) {
        let kind = EventKind::Missed { count: 0 };
        let at = self.config.clock.now();
        self.told.hub.tell(Notes::of(vec![Event { at, kind, id: None, user: None, realm: None }]));
    }

    /// Whether to go on listening; if not, the next listener begins anew.
    fn is_heard(&self) -> bool {
        let mut listening = self.told.listening.lock();
        *listening = self.told.hub.is_heard() && !self.is_closed();
        *listening
    }

    /// A connection of its own: a cluster passes what is published on to all of its nodes.
    async fn channel(
        &self,
        pushed: mpsc::UnboundedSender<PushInfo>,
    ) -> ::redis::RedisResult<MultiplexedConnection> {
        let info = self.link.info().clone();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.wait))
            .set_response_timeout(Some(self.config.wait))
            .set_push_sender(pushed);
        let client = Client::open(info.set_redis_settings(settings))?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe(self.keys.channel()).await?;
        Ok(connection)
    }
}

/// Passes on what others tell, while anybody here listens.
async fn listen(shared: Arc<Shared>) {
    let mut missed = false;
    while shared.is_heard() {
        let (pushed, mut messages) = mpsc::unbounded_channel();
        match shared.channel(pushed).await {
            Ok(connection) => {
                if std::mem::take(&mut missed) {
                    shared.tell_missed();
                }
                match hear_out(&shared, connection, &mut messages).await {
                    Heard::Enough => continue,
                    Heard::Broken => {}
                }
            }
            Err(error) => tracing::warn!(%error, "events of other processes cannot be heard"),
        }
        missed = true;
        tokio::time::sleep(PAUSE).await;
    }
}

enum Heard {
    /// Nobody listens any more.
    Enough,
    Broken,
}

async fn hear_out(
    shared: &Shared,
    mut connection: MultiplexedConnection,
    messages: &mut mpsc::UnboundedReceiver<PushInfo>,
) -> Heard {
    loop {
        match tokio::time::timeout(PAUSE, messages.recv()).await {
            Ok(Some(PushInfo { kind: PushKind::Message, data })) => {
                if let Some(Value::BulkString(message)) = data.last() {
                    shared.hear(message);
                }
            }
            Ok(None | Some(PushInfo { kind: PushKind::Disconnection, .. })) => {
                return Heard::Broken;
            }
            Ok(Some(_)) => {}
            // One that is gone without having said so does not answer.
            Err(_) => {
                if !shared.is_heard() {
                    return Heard::Enough;
                }
                if connection.send_packed_command(&::redis::cmd("PING")).await.is_err() {
                    return Heard::Broken;
                }
            }
        }
    }
}
