//! Their records as ours, and back.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tower_sessions_core::session::{Id, Record as TowerRecord};
use tower_sessions_core::session_store::Error as TowerError;

use super::{Data, tower_error};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::record::Record;
use crate::store::Draft;
use crate::value;

/// Keeps these IDs apart from those of our own tokens.
const LABEL: &[u8] = b"fastsession tower-sessions id\0";
const NANOS_PER_MILLI: u32 = 1_000_000;
/// What a record's `expiry_date` has beyond the millisecond that ours are exact to, in nanoseconds,
/// so that theirs come back as they were. Kept with the data, and taken out of it again.
const EXPIRY_REST: &str = "tower-sessions.expiry_ns";

/// One way: their ID is the secret in the cookie.
pub(super) fn id_of(id: &Id) -> SessionId {
    let digest = Sha256::new().chain_update(LABEL).chain_update(id.0.to_le_bytes()).finalize();
    SessionId::from_bytes(digest.into())
}

/// The whole of `record`, for a session whose absolute timeout began at `began`.
pub(super) fn draft_of(
    record: &TowerRecord,
    began: Timestamp,
    at: Timestamp,
) -> Result<Draft, TowerError> {
    let mut draft = Draft::default();
    draft.changes.clear();
    if record.data.contains_key(EXPIRY_REST) {
        let reserved = format!("the key {EXPIRY_REST:?} is kept for the expiry date");
        return Err(TowerError::Encode(reserved));
    }
    let rest = record.expiry_date.nanosecond() % NANOS_PER_MILLI;
    if rest > 0 {
        set(&mut draft, EXPIRY_REST, &rest)?;
    }
    for (key, value) in &record.data {
        set(&mut draft, key, value)?;
    }
    let deadline = timestamp_of(record.expiry_date);
    // In whole seconds, and never the earlier one of the two.
    let idle = deadline.saturating_since(at).saturating_add(Duration::from_secs(1));
    draft.remember = Some(Timeouts { idle, absolute: deadline.saturating_since(began) });
    Ok(draft)
}

fn set(draft: &mut Draft, key: &str, value: &impl Serialize) -> Result<(), TowerError> {
    let value = value::encode(key, value).map_err(tower_error)?;
    draft.changes.set(key, value).map_err(tower_error)
}

/// The other way round.
pub(super) fn record_of(id: Id, record: &Record) -> Result<TowerRecord, TowerError> {
    let mut data: Data = HashMap::new();
    let mut nanos = i128::from(record.absolute_at().as_millis()) * i128::from(NANOS_PER_MILLI);
    for (key, value) in record.data().iter() {
        if key == EXPIRY_REST {
            nanos += i128::from(value::decode::<u32>(key, value).map_err(tower_error)?);
        } else {
            data.insert(key.into(), value::decode(key, value).map_err(tower_error)?);
        }
    }
    let expiry_date = OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .map_err(|error| TowerError::Decode(error.to_string()))?;
    Ok(TowerRecord { id, data, expiry_date })
}

/// To the millisecond, rounded down.
fn timestamp_of(time: OffsetDateTime) -> Timestamp {
    let millis = time.unix_timestamp_nanos().div_euclid(NANOS_PER_MILLI.into());
    // The range of `OffsetDateTime` is some ten thousand years.
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
