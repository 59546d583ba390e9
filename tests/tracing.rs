//! What `tracing` is told: spans while something waits, and events. `docs/operations.md` lists
//! both, and is held to the code here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastsession::{RedbStore, Session, SessionStore, testing};
use parking_lot::Mutex;
use redb::backends::InMemoryBackend;
use redb::{BackendError, StorageBackend};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A span from its beginning to its end.
#[derive(Clone, Debug)]
struct Span {
    metadata: &'static Metadata<'static>,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Keeps every span of the crate.
#[derive(Default)]
struct Collector {
    last: std::sync::atomic::AtomicU64,
    /// With how many handles there are.
    open: Mutex<HashMap<u64, (Span, usize)>>,
    closed: Mutex<Vec<Span>>,
}

impl Subscriber for &'static Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("fastsession")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut span = Span { metadata: attributes.metadata(), fields: BTreeMap::new() };
        attributes.record(&mut span);
        self.open.lock().insert(id, (span, 1));
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut self.open.lock().get_mut(&id.into_u64()).unwrap().0);
    }

    fn try_close(&self, id: Id) -> bool {
        let mut open = self.open.lock();
        let (span, handles) = open.get_mut(&id.into_u64()).unwrap();
        *handles -= 1;
        let is_last = *handles == 0;
        if is_last {
            self.closed.lock().push(span.clone());
            open.remove(&id.into_u64());
        }
        is_last
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.open.lock().get_mut(&id.into_u64()).unwrap().1 += 1;
        id.clone()
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A disk that fails when told to, once.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    fails: Arc<AtomicBool>,
}

impl Disk {
    async fn with_a_fresh_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sessions.redb");
        RedbStore::open(&file).unwrap().close().await.unwrap();
        let content = std::fs::read(file).unwrap();
        let bytes = InMemoryBackend::new();
        bytes.set_len(content.len() as u64).unwrap();
        bytes.write(0, &content).unwrap();
        Self { bytes: Arc::new(bytes), fails: Arc::default() }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        if self.fails.swap(false, Ordering::SeqCst) {
            return Err(std::io::Error::other("told to fail"));
        }
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.bytes.write(offset, data)
    }
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

/// Waits until a span of `name` is there that `is_meant`.
fn await_span(collector: &Collector, name: &str, is_meant: impl Fn(&Span) -> bool) -> Span {
    let since = Instant::now();
    loop {
        let found = collector
            .closed
            .lock()
            .iter()
            .find(|span| span.metadata.name() == name && is_meant(span))
            .cloned();
        if let Some(span) = found {
            return span;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{name}: {:?}", collector.closed.lock());
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_has_a_span_of_a_documented_name_and_tells_ids_only() {
    let collector: &'static Collector = Box::leak(Box::default());
    tracing::subscriber::set_global_default(collector).unwrap();
    let disk = Disk::with_a_fresh_file().await;
    let storage = disk.clone();
    let store = RedbStore::builder("memory")
        .exclusive()
        .storage(move || Ok(storage.clone()))
        .sweep_interval(Duration::from_millis(1))
        .open()
        .unwrap();

    let session: Session = testing::session(&store);
    session.insert("secret-key", "secret-value").await.unwrap();
    session.login("secret-user").await.unwrap();
    session.save().await.unwrap();
    let id = session.id().await.unwrap().unwrap();
    session.destroy().await.unwrap();
    // What is not there is concluded from a state no older than the question, which waits.
    let found = Session::<()>::by_id(&store, id).await;
    assert!(found.is_err());

    let of_session = |span: &Span| span.fields.get("id") == Some(&id.to_string());
    let op = |span: &Span, op: &str| of_session(span) && span.fields["op"] == format!("{op:?}");
    let outcome = |span: &Span| span.fields["outcome"].trim_matches('"').to_owned();
    let created = await_span(collector, "fastsession.commit", |span| op(span, "create"));
    assert_eq!(outcome(&created), "committed");
    let ended = await_span(collector, "fastsession.commit", |span| op(span, "end"));
    assert_eq!(outcome(&ended), "committed");
    let load = await_span(collector, "fastsession.load", |span| {
        of_session(span) && outcome(span) == "ended"
    });
    await_span(collector, "fastsession.sweep", |span| span.fields.contains_key("removed"));
    let batch = await_span(collector, "fastsession.batch", |span| span.fields["jobs"] == "1");
    assert_eq!(outcome(&batch), "committed");

    disk.fails.store(true, Ordering::SeqCst);
    let session: Session = testing::session(&store);
    session.insert("k", "v").await.unwrap();
    let _ = session.save().await;
    let reopened =
        await_span(collector, "fastsession.reopen", |span| span.fields.contains_key("attempts"));
    let failed = await_span(collector, "fastsession.batch", |span| outcome(span) == "failed");

    for span in [&created, &load, &batch, &reopened, &failed] {
        assert!(!format!("{span:?}").contains("secret"), "{span:?}");
    }
    let told = collector.closed.lock().iter().map(|span| described(span.metadata)).collect();
    let documented: BTreeSet<_> = rows("| span |").map(|row| row[..3].to_vec()).collect();
    assert_eq!(documented, told);
    store.close().await.unwrap();
}

/// As its row in the list says it.
fn described(metadata: &Metadata<'_>) -> Vec<String> {
    let fields: Vec<_> = metadata.fields().iter().map(|field| format!("`{field}`")).collect();
    assert_eq!(metadata.target(), "fastsession");
    let level = metadata.level().to_string().to_lowercase();
    vec![format!("`{}`", metadata.name()), level, fields.join(", ")]
}

/// The rows of the table in the documentation that begins with `head`.
fn rows(head: &str) -> impl Iterator<Item = Vec<String>> {
    let page = include_str!("../docs/operations.md");
    let (_, table) = page.split_once(head).unwrap();
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
}

#[test]
fn every_event_is_in_the_list_of_events_and_none_besides() {
    let mut told = BTreeSet::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |source| {
        events(source, &mut told);
    });
    assert!(told.len() > 15, "{told:?}");
    let documented: BTreeSet<_> =
        rows("| event |").map(|row| (row[1].clone(), row[0].replace('`', ""))).collect();
    assert_eq!(documented, told);
}

fn sources(folder: &Path, read: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, read);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            read(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Level and text of each event in `source`: the text is the last literal of its macro.
fn events(source: &str, told: &mut BTreeSet<(String, String)>) {
    for level in ["error", "warn", "info", "debug", "trace"] {
        for rest in source.split(&format!("tracing::{level}!(")).skip(1) {
            let call = &rest[..end_of_call(rest)];
            let text = call.rsplit('"').nth(1).unwrap();
            // As it reads once the compiler has joined the lines.
            let joined: Vec<_> = text.split("\\\n").map(str::trim_start).collect();
            told.insert((level.into(), joined.concat().replace('`', "")));
        }
    }
}

/// Where the parenthesis closes that is open at the beginning.
fn end_of_call(rest: &str) -> usize {
    let (mut depth, mut quoted) = (1, false);
    for (at, c) in rest.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}
