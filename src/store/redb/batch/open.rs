//! An open table that can be let go of after a panic.

use std::ops::{Deref, DerefMut};

use redb::{Key, Table, TableError, Value, WriteTransaction};

use super::super::shield::caught;

/// A table of a write transaction.
///
/// If redb panics while it opens a table (it does so on some broken pages), letting go of the
/// tables that are open already panics as well, for it needs what the first panic left locked. In
/// the middle of unwinding, that second panic would end the process; so it stays in here.
pub(super) struct Open<'txn, K: Key + 'static, V: Value + 'static>(Option<Table<'txn, K, V>>);

impl<'txn, K: Key + 'static, V: Value + 'static> Open<'txn, K, V> {
    pub(super) fn new(
        txn: &'txn WriteTransaction,
        definition: redb::TableDefinition<'_, K, V>,
    ) -> Result<Self, TableError> {
        txn.open_table(definition).map(|table| Self(Some(table)))
    }
}

impl<'txn, K: Key + 'static, V: Value + 'static> Deref for Open<'txn, K, V> {
    type Target = Table<'txn, K, V>;

    fn deref(&self) -> &Self::Target {
        let Self(Some(table)) = self else { unreachable!("it is taken when this is dropped") };
        table
    }
}

impl<K: Key + 'static, V: Value + 'static> DerefMut for Open<'_, K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        let Self(Some(table)) = self else { unreachable!("it is taken when this is dropped") };
        table
    }
}

impl<K: Key + 'static, V: Value + 'static> Drop for Open<'_, K, V> {
    fn drop(&mut self) {
        let table = self.0.take();
        let _ = caught(|| drop(table));
    }
}
