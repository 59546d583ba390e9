//! Their records as ours, and back.

use sha2::{Digest, Sha256};
use std::time::Duration;
use time::OffsetDateTime;
use tower_sessions_core::session::{Id, Record as TowerRecord};
use tower_sessions_core::session_store::Error as TowerError;

use super::{Data, tower_error};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::record;
use crate::store::Draft;
use crate::value;

/// Keeps these IDs apart from those of our own tokens.
const LABEL: &[u8] = b"fastsession tower-sessions id\0";
const NANOS_PER_MILLI: i128 = 1_000_000;

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
    for (key, value) in &record.data {
        let value = value::encode(key, value).map_err(tower_error)?;
        draft.changes.set(key, value).map_err(tower_error)?;
    }
    let deadline = timestamp_of(record.expiry_date);
    // In whole seconds, and never the earlier one of the two.
    let idle = deadline.saturating_since(at).saturating_add(Duration::from_secs(1));
    draft.remember = Some(Timeouts { idle, absolute: deadline.saturating_since(began) });
    Ok(draft)
}

pub(super) fn data_of(data: record::Data<'_>) -> Result<Data, TowerError> {
    data.iter()
        .map(|(key, value)| Ok((key.into(), value::decode(key, value).map_err(tower_error)?)))
        .collect()
}

/// To the millisecond, rounded down.
fn timestamp_of(time: OffsetDateTime) -> Timestamp {
    let millis = time.unix_timestamp_nanos().div_euclid(NANOS_PER_MILLI);
    // The range of `OffsetDateTime` is some ten thousand years.
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

pub(super) fn from_timestamp(at: Timestamp) -> Result<OffsetDateTime, TowerError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_millis()) * NANOS_PER_MILLI)
        .map_err(|error| TowerError::Decode(error.to_string()))
}
