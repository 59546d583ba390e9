//! The endings of users' and everyone's sessions, as one write transaction has them.

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::super::failure;
use super::super::tables::{self, Bytes, FileState, StoredEnding};
use super::open::Open;
use crate::error::{Error, Kind, Result};
use crate::record::Endings;

pub(super) type EndingsTable<'txn> = Open<'txn, Bytes<16>, &'static [u8]>;

/// The table of endings, with as many rows as `state` counts: redb makes one anew whose name was
/// damaged, and without its rows sessions would come back to life.
pub(super) fn opened_endings<'a, 'txn>(
    table: &'a mut Option<EndingsTable<'txn>>,
    txn: &'txn WriteTransaction,
    state: &FileState,
) -> Result<&'a mut EndingsTable<'txn>> {
    match table {
        Some(table) => Ok(table),
        none => {
            let table = Open::new(txn, tables::ENDINGS).map_err(failure::before_commit)?;
            let rows = u64::from(state.user_endings) + u64::from(state.everyone.is_some());
            let found = table.len().map_err(failure::before_commit)?;
            if found != rows {
                if found == 0 {
                    // Others of the batch may well be committed, and the new one not with them.
                    drop(table);
                    txn.delete_table(tables::ENDINGS).map_err(failure::before_commit)?;
                }
                return Err(Error::new(Kind::Corrupt, "the session file has lost an ending"));
            }
            Ok(none.insert(table))
        }
    }
}

/// The endings that concern a record of `user`; `table` is open where there is one of a user's.
pub(super) fn endings_of(
    state: &FileState,
    table: Option<&EndingsTable<'_>>,
    user: Option<&str>,
) -> Result<Endings> {
    let everyone = state.everyone;
    let (Some(user), Some(table)) = (user.filter(|_| state.user_endings > 0), table) else {
        return Ok(Endings { everyone, user: None });
    };
    let key = tables::user_hash(user);
    let stored = table.get(&key).map_err(failure::before_commit)?;
    let stored = stored.map(|value| StoredEnding::open(&key, value.value())).transpose()?;
    Ok(Endings { everyone, user: stored.map(|stored| stored.ending) })
}
