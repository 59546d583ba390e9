//! Bringing a file of an older version to this one's schema.
//!
//! Migrations are numbered by the schema they start from, and carried out in one transaction each.
//! Within a major version they only add: what a file's state names as its oldest reader stays, and
//! processes of the version before keep serving. They are run where an application opens the file,
//! and by `fastsession migrate`; the tool's other commands take a file as it is.
//!
//! There is none yet: files of schemas before [`OLDEST`] were never released, and are refused with
//! the way to export and import them.

use redb::{Database, ReadableTable, WriteTransaction};

use super::log::Noting;
use super::tables::{self, FileState, OLDEST, SCHEMA};
use super::{failure, shield::shielded};
use crate::error::{Error, Kind, Result};
use crate::store::{Note, Tally};

type Migration = fn(&WriteTransaction) -> Result<()>;

/// The first leads from schema [`OLDEST`] to the next.
const MIGRATIONS: [Migration; (SCHEMA - OLDEST) as usize] = [];

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
    carry_out(&MIGRATIONS, database, note)
}

fn carry_out(
    migrations: &[Migration],
    database: &Database,
    note: Option<&Note>,
) -> Result<Migrated> {
    let mut from = None;
    loop {
        let (schema, done) = shielded(|| step(migrations, database, note))?;
        let from = *from.get_or_insert(schema);
        if done {
            return Ok(Migrated { from, to: schema });
        }
    }
}

/// Carries out one migration, if one is lacking. Answers the schema from before, and whether none
/// was.
fn step(migrations: &[Migration], database: &Database, note: Option<&Note>) -> Result<(u32, bool)> {
    let txn = database.begin_write().map_err(failure::before_commit)?;
    let mut state = {
        let meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
        let value = meta.get(tables::STATE).map_err(failure::before_commit)?;
        let value = value.ok_or_else(|| Error::new(Kind::Corrupt, "the file has no state"))?;
        FileState::open(value.value())?
    };
    let schema = state.schema;
    let lacking = schema.checked_sub(OLDEST).and_then(|index| usize::try_from(index).ok());
    let Some(migration) = lacking.and_then(|index| migrations.get(index)) else {
        txn.abort().map_err(failure::before_commit)?;
        return Ok((schema, true));
    };
    migration(&txn)?;
    state.schema += 1;
    {
        let mut meta = txn.open_table(tables::META).map_err(failure::before_commit)?;
        meta.insert(tables::STATE, state.seal().as_slice()).map_err(failure::before_commit)?;
    }
    if let Some(note) = note {
        Noting::new(note.clone())?.write(&txn, Tally::default())?;
    }
    txn.commit().map_err(failure::in_commit)?;
    Ok((schema, false))
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, TableDefinition};

    use super::*;
    use crate::Timestamp;
    use crate::store::{Note, RedbStore, SessionStore};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const ADDED: TableDefinition<u64, u64> = TableDefinition::new("added-1");

    /// Opened once the store's own thread has closed it.
    fn database_of(path: &std::path::Path) -> Database {
        loop {
            if let Ok(database) = Database::create(path) {
                return database;
            }
            std::thread::yield_now();
        }
    }

    /// A new file, with its state changed.
    fn file_of(path: &std::path::Path, change: impl FnOnce(&mut FileState)) {
        drop(RedbStore::builder(path).open().unwrap());
        let database = database_of(path);
        let txn = database.begin_write().unwrap();
        let mut meta = txn.open_table(tables::META).unwrap();
        let mut state = FileState::open(meta.get(tables::STATE).unwrap().unwrap().value()).unwrap();
        change(&mut state);
        meta.insert(tables::STATE, state.seal().as_slice()).unwrap();
        drop(meta);
        txn.commit().unwrap();
    }

    fn state_of(database: &Database) -> FileState {
        let txn = database.begin_read().unwrap();
        let meta = txn.open_table(tables::META).unwrap();
        FileState::open(meta.get(tables::STATE).unwrap().unwrap().value()).unwrap()
    }

    fn add(txn: &WriteTransaction) -> Result<()> {
        txn.open_table(ADDED).map(drop).map_err(failure::before_commit)
    }

    fn fail(_: &WriteTransaction) -> Result<()> {
        Err(Error::unavailable("not now"))
    }

    #[tokio::test]
    async fn lacking_migrations_are_carried_out_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        file_of(&path, |_| {});
        let note = Note::new("migrate", NOW);
        {
            let database = database_of(&path);
            assert!(carry_out(&[add, fail], &database, Some(&note)).is_err());
            assert_eq!(state_of(&database).schema, OLDEST + 1, "what was carried out stays");
            let done = Migrated { from: OLDEST + 1, to: OLDEST + 2 };
            assert_eq!(carry_out(&[fail, add], &database, Some(&note)).unwrap(), done);
            let nothing = Migrated { from: OLDEST + 2, to: OLDEST + 2 };
            assert_eq!(carry_out(&[fail, fail], &database, None).unwrap(), nothing);
            assert!(database.begin_read().unwrap().open_table(ADDED).is_ok());
        }
        // Of a newer schema that names this version as a reader: served as it is.
        let store = RedbStore::builder(&path).open().unwrap();
        assert_eq!(store.log(9).await.unwrap().len(), 2);
        store.close().await.unwrap();
        let database = database_of(&path);
        let nothing = Migrated { from: OLDEST + 2, to: OLDEST + 2 };
        assert_eq!(migrate(&database, None).unwrap(), nothing);
    }

    #[test]
    fn a_schema_too_old_is_refused_untouched_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        file_of(&path, |state| (state.schema, state.min_reader) = (OLDEST - 1, 1));
        let before = std::fs::read(&path).unwrap();
        let error = RedbStore::builder(&path).open().unwrap_err();
        assert!(error.is_version_mismatch(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("schema {}", OLDEST - 1)), "{text}");
        assert!(text.contains("fastsession import"), "{text}");
        assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
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
