//! The limit: a group-commit loop on redb that knows nothing of sessions.
//!
//! One thread takes whatever is queued, writes it in one transaction, commits and answers. Values
//! are 300 bytes under random keys of 32.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use redb::{
    ConcurrencyMode, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use tokio::sync::oneshot;

use crate::apps::PAYLOAD_BYTES;

const ROWS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("rows");
const DEADLINES: TableDefinition<&[u8; 37], ()> = TableDefinition::new("deadlines");
const USERS: TableDefinition<&[u8; 48], ()> = TableDefinition::new("users");

pub(crate) type Key = [u8; 32];

/// Which tables a write touches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touching {
    /// The rows.
    One,
    /// The rows, each read, copied and changed in a byte, since nobody who merges a change can write
    /// a row that it has not read.
    OneRead,
    /// The rows and two indexes.
    All,
}

struct Write {
    key: Key,
    touching: Touching,
    done: oneshot::Sender<()>,
}

/// The loop, and its end of the queue.
pub(crate) struct Loop {
    database: Arc<Database>,
    queue: Option<Sender<Write>>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    /// With these rows already there.
    pub(crate) fn open(path: &Path, exclusive: bool, cache: usize, rows: &[Key]) -> Self {
        let mode =
            if exclusive { ConcurrencyMode::ExclusiveWriter } else { ConcurrencyMode::MultiWriter };
        let mut builder = Database::builder();
        builder.set_cache_size(cache).set_concurrency_mode(mode);
        let database = Arc::new(builder.create(path).expect("a database"));
        for rows in rows.chunks(10_000) {
            write(&database, exclusive, rows.iter().map(|key| (*key, Touching::All)));
        }
        let (sender, receiver) = channel();
        let written = database.clone();
        let thread = std::thread::spawn(move || serve(&written, exclusive, &receiver));
        Self { database, queue: Some(sender), thread: Some(thread) }
    }

    /// Reads one value.
    pub(crate) fn get(&self, key: &Key) -> Vec<u8> {
        let rows = self.rows();
        let value = rows.get(key).expect("a read").expect("a row");
        value.value().to_vec()
    }

    /// Reads so many values from `key` on.
    pub(crate) fn page(&self, key: &Key, limit: usize) -> Vec<Vec<u8>> {
        let rows = self.rows();
        let values = rows.range::<&Key>(key..).expect("a read").take(limit);
        values.map(|row| row.expect("a row").1.value().to_vec()).collect()
    }

    fn rows(&self) -> ReadOnlyTable<&'static Key, &'static [u8]> {
        let transaction = self.database.begin_read().expect("a transaction");
        transaction.open_table(ROWS).expect("rows")
    }

    /// Writes one value; answered once it is on disk.
    pub(crate) async fn put(&self, key: Key, touching: Touching) {
        let (done, waiting) = oneshot::channel();
        let queue = self.queue.as_ref().expect("open until dropped");
        queue.send(Write { key, touching, done }).expect("the loop runs");
        waiting.await.expect("the loop answers");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(database: &Database, exclusive: bool, queue: &Receiver<Write>) {
    while let Ok(first) = queue.recv() {
        let batch: Vec<Write> = std::iter::once(first).chain(queue.try_iter()).collect();
        write(database, exclusive, batch.iter().map(|write| (write.key, write.touching)));
        for write in batch {
            let _ = write.done.send(());
        }
    }
}

fn write(database: &Database, exclusive: bool, rows: impl Iterator<Item = (Key, Touching)>) {
    let mut transaction = database.begin_write().expect("a transaction");
    // As our store does, so that a crash costs a millisecond and no walk through the file.
    if exclusive {
        transaction.set_quick_repair(true);
    }
    put_all(&transaction, rows);
    transaction.commit().expect("a commit");
}

fn put_all(transaction: &WriteTransaction, rows: impl Iterator<Item = (Key, Touching)>) {
    let value: Arc<[u8]> = Arc::new([b'p'; PAYLOAD_BYTES]);
    let mut table = transaction.open_table(ROWS).expect("rows");
    let mut indexes = None;
    for (key, touching) in rows {
        if touching == Touching::OneRead {
            let mut row = table.get(&key).expect("a read").expect("a row").value().to_vec();
            row[0] = row[0].wrapping_add(1);
            table.insert(&key, &*row).expect("an insert");
            continue;
        }
        table.insert(&key, &*value).expect("an insert");
        if touching == Touching::All {
            let (deadlines, users) = indexes.get_or_insert_with(|| {
                let deadlines = transaction.open_table(DEADLINES).expect("deadlines");
                (deadlines, transaction.open_table(USERS).expect("users"))
            });
            let mut deadline = [0; 37];
            deadline[5..].copy_from_slice(&key);
            deadlines.insert(&deadline, ()).expect("an insert");
            let mut user = [0; 48];
            // Users are hashes, too: an order of their own.
            user[..16].copy_from_slice(&key[16..]);
            user[16..].copy_from_slice(&key);
            users.insert(&user, ()).expect("an insert");
        }
    }
}
