//! Very many rows that are over, erased by the store itself while others are served. Figures are
//! printed, not asserted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastsession::record::Changes;
use fastsession::store::{Access, Commit, Draft, Loaded, Op, Outcome};
use fastsession::{Clock, RedbStore, SessionId, SessionStore, Timeouts};

use crate::flood;
use crate::floods::{create, fill};
use crate::support::clock;

const BATCH: usize = 1000;
/// Over which the rows come into being, so that they end in another order than that of their IDs.
const WITHIN: Duration = Duration::from_secs(12 * 3600);

struct Site {
    path: PathBuf,
    clock: Clock,
    alice: SessionId,
}

impl Site {
    fn open(&self, sweeping: bool) -> RedbStore {
        let builder = RedbStore::builder(&self.path).clock(self.clock.clone());
        let builder = builder.max_file_bytes(64 << 30);
        if sweeping { builder } else { builder.without_sweeping() }.open().unwrap()
    }

    async fn fill(&self, store: &RedbStore, count: usize) {
        for first in (0..count).step_by(BATCH) {
            let batch = BATCH.min(count - first);
            fill(store, batch, None).await;
            self.clock.advance(WITHIN.mul_f64(batch as f64 / count as f64));
        }
    }

    fn len(&self) -> u64 {
        len(&self.path)
    }
}

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn security_32_sweeping_many_rows_serves_everybody_meanwhile() {
    let count = flood(4000);
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    let path = dir.path().join("sessions.redb");
    let alice = create(clock.now(), Some("alice"), None);
    let site = Site { path, clock: clock.clone(), alice: alice.id };
    let store = site.open(false);
    site.fill(&store, count).await;
    let full = site.len();
    clock.advance(Timeouts::default().idle + Duration::from_secs(3601));
    store.commit(Commit { access: at(&clock), ..alice }).await.unwrap();
    let quiet = serve(&store, &site, Until::Requests(500)).await;
    store.close().await.unwrap();

    let store = site.open(true);
    let busy = serve(&store, &site, Until::Records(1)).await;
    println!(
        "{count} rows swept in {:?} ({:.1} µs a row); file {} MiB before, at most {} MiB meanwhile",
        busy.took,
        busy.took.as_secs_f64() * 1e6 / count as f64,
        full >> 20,
        busy.longest >> 20,
    );
    println!("without sweeping: {quiet}\nwhile sweeping: {busy}");
    // Not in one step, for which everybody would wait.
    assert!(busy.between >= count / 1000, "{} commits between steps", busy.between);
    assert_eq!(store.stats().await.unwrap().records, 1);
    // Half as many again find room where those were.
    site.fill(&store, count / 2).await;
    let refilled = site.len();
    println!("file after half as many again: {} MiB", refilled >> 20);
    let most = full + full / 4 + (8 << 20);
    assert!(busy.longest <= most && refilled <= most, "{full} bytes, then {refilled}");
    store.close().await.unwrap();
}

fn at(clock: &Clock) -> Access {
    Access { timeouts: Some(Timeouts::default()), ..Access::at(clock.now()) }
}

/// For how long requests are made.
enum Until {
    Requests(usize),
    /// Until this many are left.
    Records(u64),
}

/// How long loads and commits took, sorted; and the rest of what was seen meanwhile.
struct Served {
    loads: Vec<Duration>,
    commits: Vec<Duration>,
    took: Duration,
    longest: u64,
    /// Commits after which some rows were gone and others were not.
    between: usize,
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, times) in [("loads", &self.loads), ("commits", &self.commits)] {
            let [p50, p99, most] = [50, 99, 100].map(|percent| percentile(times, percent));
            write!(f, "{} {name}, p50 {p50:?} p99 {p99:?} max {most:?}; ", times.len())?;
        }
        Ok(())
    }
}

/// Loads and changes one session, over and over.
async fn serve(store: &RedbStore, site: &Site, until: Until) -> Served {
    let (mut loads, mut commits, mut longest) = (Vec::new(), Vec::new(), 0);
    let access = at(&site.clock);
    // The store sweeps some seconds after it was opened for the first time.
    let (mut between, mut all, mut began) = (0, None, None);
    loop {
        let since = Instant::now();
        let loaded = store.load(&site.alice, &access).await.unwrap();
        loads.push(since.elapsed());
        assert!(matches!(loaded, Loaded::Live(_)));

        let mut changes = Changes::new();
        changes.set("n", vec![u8::try_from(loads.len() % 128).unwrap()]).unwrap();
        let op = Op::Merge(Draft { changes, ..Draft::default() });
        let commit = Commit { id: site.alice, access, max_data_bytes: 65_536, op };
        let since = Instant::now();
        let outcome = store.commit(commit).await.unwrap();
        commits.push(since.elapsed());
        assert!(matches!(outcome, Outcome::Committed(_)));
        let stats = store.quick_stats().await.unwrap();
        longest = longest.max(stats.file_bytes.unwrap());
        let all = *all.get_or_insert(stats.records);
        if stats.records < all {
            began.get_or_insert_with(Instant::now);
        }
        between += usize::from(stats.records > 1 && stats.records < all);
        let done = match until {
            Until::Requests(count) => commits.len() >= count,
            Until::Records(left) => stats.records <= left,
        };
        if done {
            break;
        }
    }
    loads.sort();
    commits.sort();
    Served {
        loads,
        commits,
        took: began.map_or(Duration::ZERO, |began| began.elapsed()),
        longest,
        between,
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}
