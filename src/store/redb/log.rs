//! The log: an entry for each command that changed the file, written with its changes.

use std::sync::atomic::{AtomicU64, Ordering};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::shield::shielded;
use super::{codec, failure, tables};
use crate::error::Result;
use crate::store::{LOG_ENTRIES, LogEntry, Note, Tally};

/// A note, and the entry it became.
#[derive(Debug)]
pub(super) struct Noting {
    note: Note,
    /// Tells its entry from others, should the transaction that made it have failed.
    nonce: u64,
    /// The number of its entry; 0 if there is none yet.
    number: AtomicU64,
}

impl Noting {
    pub(super) fn new(note: Note) -> Result<Self> {
        let mut nonce = [0; 8];
        crate::random::fill_random(&mut nonce)?;
        Ok(Self { note, nonce: u64::from_le_bytes(nonce), number: AtomicU64::new(0) })
    }

    /// Adds `tally` to the entry in `txn`.
    pub(super) fn write(&self, txn: &WriteTransaction, tally: Tally) -> Result<()> {
        let mut log = txn.open_table(tables::LOG).map_err(failure::before_commit)?;
        let known = self.number.load(Ordering::Relaxed);
        let before = {
            let value = log.get(known).map_err(failure::before_commit)?;
            value.and_then(|value| decode(known, value.value()).ok())
        };
        let mut entry = match before {
            Some((entry, nonce)) if nonce == self.nonce => entry,
            _ => {
                let last = log.last().map_err(failure::before_commit)?;
                let number = last.map_or(0, |(number, _)| number.value()).saturating_add(1);
                LogEntry { number, note: self.note.clone(), tally: Tally::default() }
            }
        };
        entry.tally.add(tally);
        let value = codec::seal(&entry.number.to_be_bytes(), &entry.encode(self.nonce)?);
        log.insert(entry.number, value.as_slice()).map_err(failure::before_commit)?;
        while log.len().map_err(failure::before_commit)? > LOG_ENTRIES {
            log.pop_first().map_err(failure::before_commit)?;
        }
        self.number.store(entry.number, Ordering::Relaxed);
        Ok(())
    }
}

/// Opens a stored entry; with it comes what tells it from others.
pub(super) fn decode(number: u64, value: &[u8]) -> Result<(LogEntry, u64)> {
    LogEntry::decode(number, codec::open(&number.to_be_bytes(), value)?)
}

/// The last `limit` entries that can be decoded, newest first.
pub(super) fn last(txn: &ReadTransaction, limit: usize) -> Result<Vec<LogEntry>> {
    shielded(|| {
        let log = txn.open_table(tables::LOG).map_err(failure::before_commit)?;
        let mut entries = Vec::new();
        for row in log.iter().map_err(failure::before_commit)?.rev() {
            if entries.len() >= limit {
                break;
            }
            let (number, value) = row.map_err(failure::before_commit)?;
            // What cannot be decoded is for `fastsession check`.
            entries.extend(decode(number.value(), value.value()).ok().map(|(entry, _)| entry));
        }
        Ok(entries)
    })
}
