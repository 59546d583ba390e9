//! Walking the whole file: every record against its checksum, the tables against each other.
//!
//! A row whose leaf is damaged is found by its checksum. A row whose *branch* is damaged is simply
//! not met any more; only the entry that another table has of it tells that it was there. So each
//! record is looked for in the index by deadline and, with a user, in the index by user, and each
//! entry is looked for among the records.

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::snapshot::{read_record, shielded};
use super::tables;
use super::{codec, failure};
use crate::error::{Error, Kind, Result};
use crate::id::SessionId;
use crate::keyring::KeyRing;

/// What a walk found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Records that cannot be decoded.
    corrupt: u64,
    /// Entries of an index whose record is not there.
    missing: u64,
    /// Records that an index does not have.
    unindexed: u64,
}

/// Fails with `is_corrupt()`, and says what was found, unless the file is sound.
pub(super) fn verify(database: &Database) -> Result<()> {
    let findings = shielded(|| {
        let txn = database.begin_read().map_err(failure::before_commit)?;
        check_ring(&txn)?;
        let mut findings = Findings::default();
        check_records(&txn, &mut findings)?;
        check_entries(&txn, &mut findings)?;
        Ok(findings)
    })?;
    if findings == Findings::default() {
        return Ok(());
    }
    let Findings { corrupt, missing, unindexed } = findings;
    let message = format!(
        "the session file is damaged: {corrupt} records cannot be decoded, {missing} are missing, \
         {unindexed} are not in an index"
    );
    Err(Error::new(Kind::Corrupt, message))
}

fn check_ring(txn: &ReadTransaction) -> Result<()> {
    let keys = txn.open_table(tables::KEYS).map_err(failure::before_commit)?;
    let sealed = keys.get(tables::RING).map_err(failure::before_commit)?;
    let sealed = sealed.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no keys"))?;
    KeyRing::decode(codec::open(tables::RING.as_bytes(), sealed.value())?).map(drop)
}

fn check_records(txn: &ReadTransaction, findings: &mut Findings) -> Result<()> {
    let sessions = txn.open_table(tables::SESSIONS).map_err(failure::before_commit)?;
    let deadlines = txn.open_table(tables::DEADLINES).map_err(failure::before_commit)?;
    let users = txn.open_table(tables::USERS).map_err(failure::before_commit)?;
    for row in sessions.iter().map_err(failure::before_commit)? {
        let (key, value) = row.map_err(failure::before_commit)?;
        let id = SessionId::from_bytes(*key.value());
        let Ok(record) = read_record(&id, value.value()) else {
            findings.corrupt += 1;
            continue;
        };
        let deadline = tables::deadline_key(record.index_key(), &id);
        let by_deadline = deadlines.get(&deadline).map_err(failure::before_commit)?.is_some();
        let by_user = match record.user() {
            Some(user) => {
                let key = tables::user_key(tables::user_hash(user), &id);
                users.get(&key).map_err(failure::before_commit)?.is_some()
            }
            None => true,
        };
        findings.unindexed += u64::from(!by_deadline || !by_user);
    }
    Ok(())
}

fn check_entries(txn: &ReadTransaction, findings: &mut Findings) -> Result<()> {
    let sessions = txn.open_table(tables::SESSIONS).map_err(failure::before_commit)?;
    let mut look_for = |id: SessionId| -> Result<()> {
        let row = sessions.get(id.as_bytes()).map_err(failure::before_commit)?;
        findings.missing += u64::from(row.is_none());
        Ok(())
    };
    let deadlines = txn.open_table(tables::DEADLINES).map_err(failure::before_commit)?;
    for entry in deadlines.iter().map_err(failure::before_commit)? {
        look_for(tables::id_in(entry.map_err(failure::before_commit)?.0.value()))?;
    }
    let users = txn.open_table(tables::USERS).map_err(failure::before_commit)?;
    for entry in users.iter().map_err(failure::before_commit)? {
        look_for(tables::id_in(entry.map_err(failure::before_commit)?.0.value()))?;
    }
    Ok(())
}
