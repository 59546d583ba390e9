//! The lines of an export: what `export` writes and `import` reads.
//!
//! JSON Lines. Every line is an object with one key, which says what it is:
//!
//! | line | |
//! | --- | --- |
//! | `{"export":{"format":1,"exported_at":"…"}}` | the first one |
//! | `{"session":{…}}` | a session, in order of ID |
//! | `{"keys":{"ring":"…"}}` | the key ring with its secrets, in base64; only with `--with-keys` |
//! | `{"end":{"sessions":2}}` | the last one: without it, the export was cut |
//!
//! Instants are integers: milliseconds since 1970, UTC. Each value of a session's data stands
//! there twice: `msgpack` is what is stored, in base64, and counts; `value` is for the reader, as
//! `inspect` shows it, and left out where it is nested deeper than readers of JSON go.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::report::value;
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::keyring::KeyRing;
use crate::record::{Changes, Data, EndedBy, Header, Mark, Record};

/// The format that this version writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

/// Deepest `value`. Readers of JSON have a bound on the whole line, of 128 levels the one used here.
const MAX_DEPTH: usize = 100;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Export(Head),
    // Boxed: it is many times as large as the others.
    Session(Box<Session>),
    Keys(Keys),
    End(End),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) format: u32,
    pub(crate) exported_at: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) sessions: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    ring: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// All that is stored of a session, but for where it is filed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    id: String,
    version: u64,
    user: Option<Box<str>>,
    label: Option<Box<str>>,
    realm: Option<Box<str>>,
    created_at_ms: i64,
    authenticated_at_ms: Option<i64>,
    last_seen_at_ms: i64,
    absolute_at_ms: i64,
    idle_seconds: u32,
    remembered: bool,
    ended: Option<Ended>,
    superseded: Option<Superseded>,
    data: BTreeMap<String, Stored>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    at_ms: i64,
    until_ms: i64,
    grace_ms: i64,
    by: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Superseded {
    at_ms: i64,
    until_ms: i64,
    successor: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    msgpack: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stored(..)")
    }
}

impl Keys {
    pub(crate) fn new(ring: &KeyRing) -> Self {
        Self { ring: STANDARD.encode(ring.encode().as_slice()) }
    }

    pub(crate) fn to_ring(&self) -> Result<KeyRing, String> {
        let bytes = STANDARD.decode(&self.ring).map(zeroize::Zeroizing::new);
        let ring = bytes.ok().and_then(|bytes| KeyRing::decode(&bytes).ok());
        ring.ok_or_else(|| "the key ring cannot be decoded".into())
    }
}

impl Session {
    pub(crate) fn new(id: SessionId, record: &Record) -> Self {
        let (mut ended, mut superseded) = (None, None);
        match record.mark() {
            Mark::None => {}
            Mark::Ended { at, until, grace, by } => {
                let [at_ms, until_ms, grace_ms] = [at, until, grace].map(Timestamp::as_millis);
                ended = Some(Ended { at_ms, until_ms, grace_ms, by: by.as_str().into() });
            }
            Mark::Superseded { at, until, successor } => {
                let [at_ms, until_ms] = [at, until].map(Timestamp::as_millis);
                superseded = Some(Superseded { at_ms, until_ms, successor: successor.to_string() });
            }
        }
        let stored = |(key, bytes): (&str, &[u8])| (key.to_owned(), Stored::new(bytes));
        Self {
            id: id.to_string(),
            version: record.version(),
            user: record.user().map(Into::into),
            label: record.label().map(Into::into),
            realm: record.realm().map(Into::into),
            created_at_ms: record.created_at().as_millis(),
            authenticated_at_ms: record.authenticated_at().map(Timestamp::as_millis),
            last_seen_at_ms: record.last_seen_at().as_millis(),
            absolute_at_ms: record.absolute_at().as_millis(),
            // Stored in as many bits.
            idle_seconds: u32::try_from(record.idle_timeout().as_secs()).unwrap_or(u32::MAX),
            remembered: record.is_remembered(),
            ended,
            superseded,
            data: record.data().iter().map(stored).collect(),
        }
    }

    /// The ID and the record, or what is wrong with the line.
    pub(crate) fn to_record(&self) -> Result<(SessionId, Record), String> {
        let id = self.id.parse().map_err(|error| format!("`id`: {error}"))?;
        let created_at = Timestamp::from_millis(self.created_at_ms);
        let mut header = Header::new(created_at, &Timeouts::default());
        header.version = self.version;
        header.user.clone_from(&self.user);
        header.label.clone_from(&self.label);
        header.realm.clone_from(&self.realm);
        header.authenticated_at = self.authenticated_at_ms.map(Timestamp::from_millis);
        header.last_seen_at = Timestamp::from_millis(self.last_seen_at_ms);
        header.absolute_at = Timestamp::from_millis(self.absolute_at_ms);
        header.idle = Duration::from_secs(self.idle_seconds.into());
        header.remembered = self.remembered;
        header.mark = self.mark()?;
        if header.mark != Mark::None && !self.data.is_empty() {
            return Err("a session that is over has no data".into());
        }
        header.refile();
        let mut changes = Changes::new();
        for (key, stored) in &self.data {
            let bytes = stored.to_bytes().map_err(|error| format!("`data`, `{key}`: {error}"))?;
            changes.set(key, bytes).map_err(|error| format!("`data`, `{key}`: {error}"))?;
        }
        let record = Record::changed(&header, Data::EMPTY, &changes);
        record.map(|record| (id, record)).map_err(|error| error.to_string())
    }

    fn mark(&self) -> Result<Mark, String> {
        match (&self.ended, &self.superseded) {
            (None, None) => Ok(Mark::None),
            (Some(_), Some(_)) => Err("a session is not both `ended` and `superseded`".into()),
            (Some(ended), None) => Ok(Mark::Ended {
                at: Timestamp::from_millis(ended.at_ms),
                until: Timestamp::from_millis(ended.until_ms),
                grace: Timestamp::from_millis(ended.grace_ms),
                by: ended_by(&ended.by)?,
            }),
            (None, Some(superseded)) => Ok(Mark::Superseded {
                at: Timestamp::from_millis(superseded.at_ms),
                until: Timestamp::from_millis(superseded.until_ms),
                successor: superseded
                    .successor
                    .parse()
                    .map_err(|error| format!("`successor`: {error}"))?,
            }),
        }
    }
}

fn ended_by(word: &str) -> Result<EndedBy, String> {
    let mut known = (0..).map_while(EndedBy::from_code);
    known
        .find(|by| by.as_str() == word)
        .ok_or_else(|| "`by` is not one of application, cli, cap and timeout".into())
}

impl Stored {
    fn new(bytes: &[u8]) -> Self {
        let value = Some(value::decode(bytes)).filter(|value| depth(value) <= MAX_DEPTH);
        Self { msgpack: STANDARD.encode(bytes), value }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, &'static str> {
        let bytes = STANDARD.decode(&self.msgpack).map_err(|_| "`msgpack` is not base64")?;
        // Whoever edits an export most likely edits what can be read.
        match &self.value {
            Some(shown) if *shown != value::decode(&bytes) => {
                Err("`value` is not what `msgpack` holds; change both, or leave `value` out")
            }
            _ => Ok(bytes),
        }
    }
}

/// How many arrays and objects stand in each other.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}
