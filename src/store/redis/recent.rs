//! What this process saw last: guesses that save a commit the reading, never an answer.
//!
//! A commit based on a guess is compared with what is there, on the server, before it is written.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::layout::{Partition, Row};
use crate::id::SessionId;

/// Bytes of records that are remembered, about.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Rows seen of late, and the state of each partition.
pub(super) struct Recent {
    rows: Mutex<Rows>,
    states: Mutex<HashMap<Partition, Vec<u8>>>,
}

/// Two halves: what is used moves to the new one, and when that is full the old one goes.
#[derive(Default)]
struct Rows {
    new: HashMap<SessionId, Row>,
    old: HashMap<SessionId, Row>,
    new_bytes: usize,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { rows: Mutex::default(), states: Mutex::default() }
    }

    pub(super) fn put(&self, id: SessionId, row: Row) {
        let mut rows = self.rows.lock();
        let bytes = row.record.size_bytes() + size_of::<Row>() + SessionId::LEN;
        if rows.new_bytes + bytes > MOST_BYTES / 2 {
            rows.old = std::mem::take(&mut rows.new);
            rows.new_bytes = 0;
        }
        if let Some(before) = rows.new.insert(id, row) {
            rows.new_bytes -= before.record.size_bytes() + size_of::<Row>() + SessionId::LEN;
        }
        rows.new_bytes += bytes;
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<Row> {
        let rows = self.rows.lock();
        rows.new.get(id).or_else(|| rows.old.get(id)).cloned()
    }

    pub(super) fn forget(&self, id: &SessionId) {
        let mut rows = self.rows.lock();
        if let Some(row) = rows.new.remove(id) {
            rows.new_bytes -= row.record.size_bytes() + size_of::<Row>() + SessionId::LEN;
        }
        rows.old.remove(id);
    }

    pub(super) fn put_state(&self, partition: Partition, sealed: &[u8]) {
        let mut states = self.states.lock();
        if states.get(&partition).is_none_or(|known| known != sealed) {
            states.insert(partition, sealed.to_vec());
        }
    }

    pub(super) fn state(&self, partition: Partition) -> Option<Vec<u8>> {
        self.states.lock().get(&partition).cloned()
    }
}
