//! The limit: a group-commit loop on redb that knows nothing of sessions.
//!
//! One thread takes whatever is queued, writes it in one transaction, commits and answers. Values
//! are 300 bytes under random keys of 32.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{
    ConcurrencyMode, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use tokio::sync::oneshot;
use twox_hash::XxHash3_64;

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
    /// The rows, each as any store has to that merges changes: what is there is found, checked and
    /// copied with the change, and who asked gets what is there then, within a time.
    OneMerged,
    /// The rows and two indexes.
    All,
}

struct Write {
    key: Key,
    touching: Touching,
    /// What is merged.
    change: Box<[u8]>,
    done: oneshot::Sender<Option<Arc<[u8]>>>,
}

/// Of a merged row: a checksum, the instant of the last change, how often it was changed.
const HEADER_BYTES: usize = 24;
const MOST_WAITED: Duration = Duration::from_secs(5);

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
            write(&database, exclusive, rows.iter().map(|key| (*key, Touching::All, &[][..])));
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
        let merges = touching == Touching::OneMerged;
        let change = if merges { vec![b'p'; PAYLOAD_BYTES - HEADER_BYTES] } else { Vec::new() };
        let write = Write { key, touching, change: change.into(), done };
        queue.send(write).expect("the loop runs");
        if merges {
            let answer =
                tokio::time::timeout(MOST_WAITED, waiting).await.expect("an answer in time");
            answer.expect("the loop answers").expect("a row");
        } else {
            waiting.await.expect("the loop answers");
        }
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
        let writes = batch.iter().map(|write| (write.key, write.touching, &*write.change));
        let answers = write(database, exclusive, writes);
        for (write, answer) in batch.into_iter().zip(answers) {
            let _ = write.done.send(answer);
        }
    }
}

fn write<'a>(
    database: &Database,
    exclusive: bool,
    rows: impl Iterator<Item = (Key, Touching, &'a [u8])>,
) -> Vec<Option<Arc<[u8]>>> {
    let mut transaction = database.begin_write().expect("a transaction");
    // As our store does, so that a crash costs a millisecond and no walk through the file.
    if exclusive {
        transaction.set_quick_repair(true);
    }
    let answers = put_all(&transaction, rows);
    transaction.commit().expect("a commit");
    answers
}

fn put_all<'a>(
    transaction: &WriteTransaction,
    rows: impl Iterator<Item = (Key, Touching, &'a [u8])>,
) -> Vec<Option<Arc<[u8]>>> {
    let mut answers = Vec::new();
    let value: Arc<[u8]> = Arc::new([b'p'; PAYLOAD_BYTES]);
    let mut table = transaction.open_table(ROWS).expect("rows");
    let mut indexes = None;
    for (key, touching, change) in rows {
        if touching == Touching::OneMerged {
            let found = table.get(&key).expect("a read").expect("a row");
            let row = merged(&key, found.value(), change);
            drop(found);
            table.insert(&key, &*row).expect("an insert");
            answers.push(Some(row));
            continue;
        }
        answers.push(None);
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
    answers
}

fn merged(key: &Key, row: &[u8], change: &[u8]) -> Arc<[u8]> {
    let (sum, rest) = row.split_first_chunk().expect("its header");
    // A row that was put there whole has none.
    std::hint::black_box(u64::from_le_bytes(*sum) == checksum(key, rest));
    let field = |place: usize| rest[place..][..8].try_into().map(u64::from_le_bytes);
    let (seen, count) = (field(0).expect("its length"), field(8).expect("its length"));
    let mut out = vec![0; 8];
    out.extend_from_slice(&seen.max(count).to_le_bytes());
    out.extend_from_slice(&count.wrapping_add(1).to_le_bytes());
    out.extend_from_slice(change);
    let sum = checksum(key, &out[8..]);
    out[..8].copy_from_slice(&sum.to_le_bytes());
    out.into()
}

fn checksum(key: &Key, rest: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(rest), key)
}
