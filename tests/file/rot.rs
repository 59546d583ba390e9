//! Bits that rot while nobody looks: none is ever read as something else.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fastsession::record::{Absence, Changes};
use fastsession::store::{
    Access, CheckReport, Commit, Draft, Freshness, Loaded, Login, Op, Outcome, RedbStoreBuilder,
};
use fastsession::{Error, KeyRing, RedbStore, Selector, SessionId, SessionStore, SessionToken};
use tokio::runtime::Runtime;

use crate::fixture::{Fixture, START, rounds};
use crate::pages::{HEADER_BYTES, Kind, Pages};

const SESSIONS: usize = 2000;
const USERS: usize = 300;
/// The first flip, and what follows from it.
const SEED: u64 = 1;

/// `FASTSESSION_FLIPS` says how many bits are flipped, one at a time.
#[test]
fn rule_18_rot_in_a_page_of_any_kind_is_never_read_as_data() {
    quieten_engine();
    let fixture = Fixture::new();
    let sound = Sound::new(&fixture);
    let pages = Pages::of(&sound.bytes);
    let flips = rounds("FASTSESSION_FLIPS", 150);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(flips);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let run = |worker: usize| {
            let (sound, pages) = (&sound, &pages);
            let path = fixture.dir.path().join(format!("rotten-{worker}.redb"));
            move || {
                let runtime = Runtime::new().unwrap();
                let mut tally = Tally::default();
                for flip in (worker..flips).step_by(workers) {
                    let bit = aim(flip, pages, sound.bytes.len());
                    let (kind, came_of_it) = sound.with_flipped(&runtime, &path, bit, pages);
                    tally.add(kind, came_of_it);
                }
                tally
            }
        };
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(run(worker))).collect();
        for worker in running {
            tally.merge(&worker.join().unwrap());
        }
    });
    println!("{tally}");
    assert_eq!((tally.sum(Came::Wrong), tally.sum(Came::Escaped)), (0, 0), "\n{tally}");
    assert!(tally.sum(Came::Caught) > flips / 10, "nearly nothing was hit\n{tally}");
    assert!(tally.sum(Came::Vanished) > 0, "nothing vanished\n{tally}");
}

/// Of eight bits, two are of a branch, two of a leaf, one is of the header, three are anywhere.
fn aim(flip: usize, pages: &Pages, len: usize) -> usize {
    let mut random = Random(SEED.wrapping_add(flip as u64));
    let mut within = |start: usize, len: usize| (start + random.below(len)) * 8 + random.below(8);
    let mut choice = Random(!(SEED.wrapping_add(flip as u64)));
    let mut page_of = |kind| {
        let (start, len) = pages.all_of(kind)[choice.below(pages.all_of(kind).len())];
        within(start, len)
    };
    match flip % 8 {
        0 | 1 => page_of(Kind::Branch),
        2 | 3 => page_of(Kind::Leaf),
        4 => within(0, HEADER_BYTES),
        _ => within(0, len),
    }
}

/// What came of a flipped bit: the worst there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// The file was refused when it was opened.
    Refused,
    /// Some answers were refusals, or `check` found something; all others were right.
    Caught,
    /// All was right, and nothing was found.
    Harmless,
    /// Sessions were answered to be absent; `check` and `verify_on_open` told.
    Vanished,
    /// Something was answered that is not so, or went missing unnoticed.
    Wrong,
    /// A panic reached the caller.
    Escaped,
}

/// A closed file, and what is in it.
struct Sound {
    bytes: Vec<u8>,
    sessions: Vec<(SessionId, Loaded)>,
    keys: KeyRing,
}

impl Sound {
    fn new(fixture: &Fixture) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = fixture.open();
        let (sessions, keys) = runtime.block_on(async {
            let mut ids = Vec::new();
            for number in 0..SESSIONS {
                ids.push(create(&store, number).await);
            }
            store.expire(Selector::user("user 6")).await.unwrap();
            let mut sessions = Vec::new();
            for id in ids {
                sessions.push((id, store.load(&id, &Access::at(START)).await.unwrap()));
            }
            let keys = store.keys(Freshness::Current).await.unwrap();
            store.close().await.unwrap();
            (sessions, keys)
        });
        Self { bytes: fs::read(fixture.path()).unwrap(), sessions, keys }
    }

    #[allow(clippy::print_stdout, reason = "why a test fails")]
    fn with_flipped(
        &self,
        runtime: &Runtime,
        path: &Path,
        bit: usize,
        pages: &Pages,
    ) -> (Kind, Came) {
        let mut bytes = self.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let kind = pages.kind_at(bit / 8);
        let looked = catch_unwind(AssertUnwindSafe(|| self.look(runtime, path, &bytes)));
        let came = match looked {
            Ok(Ok(came)) => came,
            Ok(Err(why)) => {
                println!("bit {bit}, in a page of kind {kind:?}: {why}");
                Came::Wrong
            }
            Err(_) => Came::Escaped,
        };
        (kind, came)
    }

    fn look(
        &self,
        runtime: &Runtime,
        path: &Path,
        bytes: &[u8],
    ) -> std::result::Result<Came, String> {
        let check = builder(write(path, bytes)).check();
        let found =
            |error: &Error| error.is_corrupt() || error.is_invalid() || error.is_version_mismatch();
        let verified = builder(write(path, bytes)).verify_on_open().open();
        let is_verified = verified.is_ok();
        drop(verified);
        let store = match builder(write(path, bytes)).open() {
            Ok(store) => store,
            Err(error) if found(&error) => return Ok(Came::Refused),
            Err(error) => return Err(format!("not opened: {error:?}")),
        };
        let answers = runtime.block_on(self.ask(&store));
        runtime.block_on(store.close()).ok();
        let (refused, vanished) = answers?;
        let is_sound = check.as_ref().is_ok_and(CheckReport::is_sound);
        if vanished.is_empty() {
            let all_right = refused == 0 && is_sound;
            return Ok(if all_right { Came::Harmless } else { Came::Caught });
        }
        if is_sound || is_verified {
            let gone = vanished.len();
            return Err(format!("{gone} vanished: check {is_sound}, verified {is_verified}"));
        }
        // Otherwise there was nothing to check, and that was told.
        let Ok(report) = check else { return Ok(Came::Vanished) };
        let named: BTreeSet<_> = report.findings.iter().filter_map(|finding| finding.id).collect();
        let blind = report.records == 0;
        match vanished.iter().find(|id| !named.contains(id) && !blind) {
            Some(id) => Err(format!("{id} vanished, and is not named: {report:#?}")),
            None => Ok(Came::Vanished),
        }
    }

    /// How often nothing was answered, and for which sessions that there are none; or an answer
    /// that is not so.
    async fn ask(
        &self,
        store: &RedbStore,
    ) -> std::result::Result<(usize, BTreeSet<SessionId>), String> {
        let (mut refused, mut vanished) = (0, BTreeSet::new());
        match store.keys(Freshness::Current).await {
            Ok(keys) if keys == self.keys => {}
            Ok(_) => return Err("another key ring".into()),
            Err(_) => refused += 1,
        }
        for (id, expected) in &self.sessions {
            match (store.load(id, &Access::at(START)).await, expected) {
                (Ok(Loaded::Live(found)), Loaded::Live(record)) if found == *record => {}
                (Ok(Loaded::Absent(found)), Loaded::Absent(absence)) if found == *absence => {}
                (Ok(Loaded::Absent(Absence::Corrupt)), _) => refused += 1,
                (Ok(Loaded::Absent(Absence::NotFound)), _) => drop(vanished.insert(*id)),
                (Err(error), _) if error.is_store_failure() => refused += 1,
                (other, _) => return Err(format!("{id}: {other:?}, not {expected:?}")),
            }
        }
        Ok((refused, vanished))
    }
}

fn builder(path: &Path) -> RedbStoreBuilder {
    RedbStore::builder(path).clock(fastsession::Clock::manual(START)).without_sweeping()
}

fn write<'a>(path: &'a Path, bytes: &[u8]) -> &'a Path {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A session whose data is no other's.
async fn create(store: &RedbStore, number: usize) -> SessionId {
    let id = SessionToken::generate().unwrap().id();
    let user = (!number.is_multiple_of(3)).then(|| format!("user {}", number % USERS));
    let login = user.map(|user| Login { user: user.into(), cap: None });
    let mut changes = Changes::new();
    changes.set("number", number.to_string().into_bytes()).unwrap();
    changes.set("filling", vec![1; number % 400]).unwrap();
    let op = Op::Create { realm: None, draft: Draft { changes, ..Draft::default() }, login };
    let commit = Commit { id, access: Access::at(START), max_data_bytes: 65_536, op };
    assert!(matches!(store.commit(commit).await.unwrap(), Outcome::Committed(_)));
    id
}

/// How often what came of a bit in a page of each kind.
#[derive(Default)]
struct Tally([[usize; 6]; 4]);

impl Tally {
    fn add(&mut self, kind: Kind, came: Came) {
        self.0[kind as usize][came as usize] += 1;
    }

    fn merge(&mut self, other: &Self) {
        for (counts, others) in self.0.iter_mut().zip(other.0) {
            for (count, other) in counts.iter_mut().zip(others) {
                *count += other;
            }
        }
    }

    fn sum(&self, came: Came) -> usize {
        self.0.iter().map(|counts| counts[came as usize]).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = "page | flips | refused at open | caught | harmless | \
                      vanished and reported | wrong | escaped";
        writeln!(f, "| {titles} |\n| --- | --: | --: | --: | --: | --: | --: | --: |")?;
        for (name, counts) in ["header", "branch", "leaf", "other"].iter().zip(&self.0) {
            write!(f, "| {name} | {}", counts.iter().sum::<usize>())?;
            counts.iter().try_for_each(|count| write!(f, " | {count}"))?;
            writeln!(f, " |")?;
        }
        Ok(())
    }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// Keeps the panics of redb, in which the store's threads catch it, off the output.
fn quieten_engine() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_none_or(|location| !location.file().contains("redb-")) {
            print(panic);
        }
    }));
}
