//! Bringing a file of an older version to this one's schema.
//!
//! Migrations are numbered by the schema they start from, and carried out in one transaction each.
//! Within a major version they only add: what a file's state names as its oldest reader stays, and
//! processes of the version before keep serving. They are run where an application opens the file,
//! and by `fastsession migrate`; the tool's other commands take a file as it is.

use redb::{Database, ReadableTable, WriteTransaction};

use super::log::Noting;
use super::tables::{self, FileState, LOG_SINCE, SCHEMA};
use super::{failure, snapshot::shielded};
use crate::error::{Error, Kind, Result};
use crate::store::{Note, Tally};

type Migration = fn(&WriteTransaction) -> Result<()>;

/// The first leads from schema 1 to 2.
const MIGRATIONS: [Migration; SCHEMA as usize - 1] = [add_log];

/// What [`migrate`](super::RedbStoreBuilder::migrate) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The schema the file had.
    pub from: u32,
    /// The schema it has now.
    pub to: u32,
}

/// Carries out the migrations that `database` lacks.
pub(super) fn migrate(database: &Database, note: Option<&Note>) -> Result<Migrated> {
    let mut from = None;
    loop {
        let schema = shielded(|| step(database, note))?;
        let from = *from.get_or_insert(schema);
        if schema >= SCHEMA {
            return Ok(Migrated { from, to: schema });
        }
    }
}

/// Carries out one migration, if one is lacking. Answers the schema from before.
fn step(database: &Database, note: Option<&Note>) -> Result<u32> {
    let txn = database.begin_write().map_err(failure::before_commit)?;
    let mut state = {
        let meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
        let value = meta.get(tables::STATE).map_err(failure::before_commit)?;
        let value = value.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no state"))?;
        FileState::open(value.value())?
    };
    let schema = state.schema;
    let lacking = usize::try_from(schema).ok().and_then(|schema| schema.checked_sub(1));
    let Some(migration) = lacking.and_then(|index| MIGRATIONS.get(index)) else {
        txn.abort().map_err(failure::before_commit)?;
        return Ok(schema);
    };
    migration(&txn)?;
    state.schema += 1;
    {
        let mut meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
        meta.insert(tables::STATE, state.seal().as_slice()).map_err(failure::before_commit)?;
    }
    if let Some(note) = note.filter(|_| state.schema >= LOG_SINCE) {
        Noting::new(note.clone())?.write(&txn, Tally::default())?;
    }
    txn.commit().map_err(failure::in_commit)?;
    Ok(schema)
}

fn add_log(txn: &WriteTransaction) -> Result<()> {
    txn.open_table(tables::LOG).map(drop).map_err(failure::before_commit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EndedBy;
    use crate::store::{End, Note, RedbStore, RedbStoreBuilder, SessionStore, Target};
    use crate::{Clock, Timestamp};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    /// A new file, with its state changed.
    fn file_of(path: &std::path::Path, change: impl FnOnce(&mut FileState)) {
        drop(RedbStore::builder(path).open().unwrap());
        let database = loop {
            // Closed by a thread of the store's own.
            if let Ok(database) = Database::create(path) {
                break database;
            }
            std::thread::yield_now();
        };
        let txn = database.begin_write().unwrap();
        let mut meta = txn.open_table(tables::META).unwrap();
        let mut state = FileState::open(meta.get(tables::STATE).unwrap().unwrap().value()).unwrap();
        change(&mut state);
        if state.schema == 1 {
            txn.delete_table(tables::LOG).unwrap();
        }
        meta.insert(tables::STATE, state.seal().as_slice()).unwrap();
        drop(meta);
        txn.commit().unwrap();
    }

    async fn entries_after_an_end(builder: RedbStoreBuilder) -> usize {
        let store = builder.clock(Clock::manual(NOW)).without_sweeping().open().unwrap();
        let noted = store.noting(&Note::new("expire", NOW)).unwrap();
        let end = End { target: Target::Everyone, except: None, by: EndedBy::Cli, at: NOW };
        noted.end(end).await.unwrap();
        let entries = store.log(9).await.unwrap().len();
        store.close().await.unwrap();
        entries
    }

    #[tokio::test]
    async fn an_older_schema_is_served_as_it_is_and_migrated_by_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        // As the first version made it.
        file_of(&path, |state| state.schema = 1);
        let tool = RedbStore::builder(&path).without_migrating();
        assert_eq!(entries_after_an_end(tool.clone()).await, 0, "there is no log to write");
        assert_eq!(entries_after_an_end(RedbStore::builder(&path)).await, 1);
        assert_eq!(entries_after_an_end(tool).await, 2);
        let database = Database::create(&path).unwrap();
        assert_eq!(migrate(&database, None).unwrap(), Migrated { from: SCHEMA, to: SCHEMA });
    }

    #[test]
    fn a_newer_schema_is_refused_untouched_with_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        file_of(&path, |state| (state.schema, state.min_reader) = (SCHEMA + 2, SCHEMA + 1));
        let before = std::fs::read(&path).unwrap();
        for exclusive in [false, true] {
            let builder = RedbStore::builder(&path);
            let error = if exclusive { builder.exclusive() } else { builder }.open().unwrap_err();
            assert!(error.is_version_mismatch(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(&format!("schema {}", SCHEMA + 1)), "{text}");
            assert!(text.contains(&format!("knows schema {SCHEMA}")), "{text}");
            assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
        }
    }
}
