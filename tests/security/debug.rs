//! What the `Debug` of every public type shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Names of the public types that the sources declare.
fn public_types() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let declared =
                line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
            if let Some(rest) = declared {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                names.insert(name.unwrap().to_owned());
            }
        }
    }
    names
}

mod shown {
    use std::fmt::Debug;
    use std::time::Duration;

    use fastsession::record::{Changes, Header, IndexKey, Mark};
    use fastsession::store::{
        Access, Answer, Applied, Commit, Draft, End, EndReport, Expired, Freshness, KeyChange,
        Loaded, Login, Op, Outcome, Purged, Query, Stats, Sweep, Swept, Target, Timing, Write,
    };
    use fastsession::testing::contract::{CHECKS, Failure, Opened};
    use fastsession::*;

    /// Is in the data of every record that is shown.
    pub(super) const PAYLOAD: &str = "payload-sentinel";
    /// The bytes of every key that is shown.
    pub(super) const SECRET: &[u8; 32] = b"key-sentinel 0123456789 ABCDEFG!";

    /// `Debug` of a value of each type, by the name of the type.
    #[allow(clippy::too_many_lines, reason = "a list")]
    pub(super) async fn all() -> Vec<(&'static str, String)> {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let key = Key::from_bytes(SECRET).unwrap();
        let ring = KeyRing::new([key.clone()]).unwrap();
        let builder = MemoryStore::builder().clock(clock.clone()).key_ring(ring.clone());
        let mut out = vec![show("MemoryStoreBuilder", &builder)];
        let store = builder.build().unwrap();
        let cookie = CookieOptions::insecure_http();
        let signed_in = testing::signed_in::<(), _>(&store, &cookie, "alice").await.unwrap();
        let session = testing::session(&store);
        session.insert("k", PAYLOAD).await.unwrap();
        session.save().await.unwrap();
        let id = session.id().await.unwrap().unwrap();
        let access = Access::at(clock.now());
        let Loaded::Live(record) = store.load(&id, &access).await.unwrap() else { panic!() };
        let mut changes = Changes::new();
        changes.set("k", [&[0xb0], PAYLOAD.as_bytes()].concat()).unwrap();
        let draft = Draft { changes: changes.clone(), ..Draft::default() };
        let op = Op::CompareAndSet {
            key: "k".into(),
            expected: Some(PAYLOAD.as_bytes().into()),
            value: Some(PAYLOAD.as_bytes().into()),
        };
        let commit = Commit { id, access, max_data_bytes: 1, op: op.clone() };
        let inspected = store.inspect(&id).await.unwrap().unwrap();
        let query = Query { filter: Filter::new(), after: None, limit: 9, at: clock.now() };
        let page = store.page(&query).await.unwrap();
        let write = Write { id, before: Some(record.clone()), after: record.clone() };
        let error = session.get::<u64>("k").await.unwrap_err();
        let token = SessionToken::generate().unwrap();
        let layer = SessionLayer::new(store.clone());
        let end = End { target: Target::Everyone, except: None, by: EndedBy::Cli, at: clock.now() };
        let dir = tempfile::tempdir().unwrap();
        let redb = RedbStore::builder(dir.path().join("s.redb")).key_ring(ring.clone());
        out.push(show("RedbStoreBuilder", &redb));
        let redb = redb.open().unwrap();
        let signer = TimedSigner::new(key.clone());
        let signer_error = signer.verify::<u64>("x", Duration::MAX, clock.now()).unwrap_err();
        out.extend([
            show("Access", &access),
            show("Answer", &Answer::ready(Ok(record.clone()))),
            show(
                "Applied",
                &Applied {
                    outcome: Outcome::Committed(record.clone()),
                    write: Some(write.clone()),
                    more: vec![],
                },
            ),
            show("Absence", &record::Absence::Corrupt),
            show("Broken", &testing::broken::ALL[0]),
            show("Changes", &changes),
            show("Check", &CHECKS[0]),
            show("Clock", &clock),
            show("Commit", &commit),
            show("CookieOptions", &cookie),
            show("CookieOptionsBuilder", &CookieOptions::builder()),
            show("Counters", &layer.counters()),
            show("Data", &record.data()),
            show("Draft", &draft),
            show("Durability", &Durability::Immediate),
            show("End", &end),
            show("EndReport", &EndReport::default()),
            show("EndedBy", &EndedBy::Cli),
            show("Endings", &inspected.endings),
            show("Error", &error),
            show("Expired", &Expired::default()),
            show("Failure", &Failure::from(error.clone())),
            show("Filter", &Filter::new().user("alice")),
            show("Freshness", &Freshness::Current),
            show("Header", &Header::new(clock.now(), &Timeouts::AAL1)),
            show("IdPrefix", &"00".parse::<IdPrefix>().unwrap()),
            show("IndexKey", &record.index_key()),
            show("Inspected", &inspected),
            show("Key", &key),
            show("KeyChange", &KeyChange::Retire { key: key.id() }),
            show("KeyId", &key.id()),
            show("KeyRing", &ring),
            show("KeyState", &key.state()),
            show("Loaded", &Loaded::Live(record.clone())),
            show("Login", &Login { user: "alice".into(), cap: None }),
            show("Mark", &Mark::None),
            show("MemoryStore", &store),
            show("Op", &op),
            show("Opened", &Opened::new(store.clone())),
            show("Origin", &Origin::New),
            show("Outcome", &Outcome::Committed(record.clone())),
            show("Page", &page),
            show("Purged", &Purged::default()),
            show("Query", &query),
            show("Record", &record),
            show("RedbStore", &redb),
            show("SameSite", &SameSite::Lax),
            show("Selector", &Selector::user("alice")),
            show("Session", &session),
            show("SessionCap", &SessionCap::refuse_new(1)),
            show("SessionId", &id),
            show("SessionLayer", &layer),
            show("SessionService", &tower_layer::Layer::layer(&layer, ())),
            show("SessionToken", &token),
            show("SignedIn", &signed_in),
            show("SignerError", &signer_error),
            show("State", &State::Live),
            show("Stats", &Stats::default()),
            show("Summary", &page.sessions[0]),
            show("Sweep", &Sweep { at: clock.now(), limit: 1, purge: true }),
            show("Swept", &Swept::default()),
            show("Target", &Target::Everyone),
            show("TimedSigner", &signer),
            show("Timeouts", &Timeouts::AAL1),
            show("Timestamp", &clock.now()),
            show("Timing", &Timing::default()),
            show("Write", &write),
        ]);
        let _ = IndexKey::bucket_of(clock.now());
        redb.close().await.unwrap();
        let secret = signed_in.cookie.split('.').nth(2).unwrap().to_owned();
        out.push(("", secret));
        out
    }

    fn show(name: &'static str, value: &dyn Debug) -> (&'static str, String) {
        (name, format!("{value:?} {value:#?}"))
    }
}

/// Types that hold neither tokens, keys nor values, each for a reason.
const BARE: &[(&str, &str)] = &[
    ("Admission", "a record, whose `Debug` is looked at"),
    ("HeaderOptions", "the name of a header and how it is spelt"),
    ("Import", "records, whose `Debug` is looked at"),
    ("Imported", "counts and IDs"),
    ("Records", "records, whose `Debug` is looked at"),
    ("Remove", "IDs"),
    ("BackedUp", "counts and instants"),
    ("Compacted", "sizes"),
    ("Repaired", "counts"),
    ("Restored", "counts and instants"),
    ("Store", "a store, whose `Debug` is looked at"),
    ("CheckReport", "counts, and places in a file"),
    ("Damage", "words for kinds of damage"),
    ("Finding", "a place in a file, and what is wrong there"),
    ("RedisStore", "written by hand, with the address and without the password"),
    ("RedisStoreBuilder", "written by hand, with the address and without the password"),
    ("Bucket", "a bound and a count"),
    ("Bytes", "sizes"),
    ("Changed", "counts"),
    ("Counts", "counts"),
    ("Copied", "a path and counts"),
    ("Event", "an ID, a user and what happened"),
    ("EventKind", "what happened, and who did it"),
    ("Events", "a subscription"),
    ("Inspection", "written by hand, without values"),
    ("Made", "a path and a key's ID"),
    ("Progress", "how far a command is"),
    ("Step", "the name of a part of a command, and counts"),
    ("Verdict", "a cookie's name, IDs and the reason of a refusal: `leaks` asks the tool for one"),
    ("Statistics", "counts, and names of users"),
    ("TopUser", "a user and a count"),
    ("Ending", "a generation, an instant and who did it; within `Endings`"),
    ("LogEntry", "who changed a store, and what that person wrote about it"),
    ("Migrated", "two numbers"),
    ("Note", "who changes a store, and what that person writes about it"),
    ("Report", "names of checks, and what a store did wrong"),
    ("Setup", "a clock and two durations"),
    ("Suite", "how often to race"),
    ("Tally", "counts"),
];

/// Bytes as `Debug` of a list of numbers shows them.
fn as_numbers(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn security_24_debug_of_no_public_type_shows_a_secret() {
    let mut shown = shown::all().await;
    let (_, token) = shown.pop().unwrap();
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, &token).unwrap();
    let secrets = [
        token,
        as_numbers(&bytes),
        shown::PAYLOAD.to_owned(),
        as_numbers(shown::PAYLOAD.as_bytes()),
        "key-sentinel".to_owned(),
        as_numbers(&shown::SECRET[..12]),
    ];
    let mut leaks = Vec::new();
    for (name, text) in &shown {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        leaks.extend(secrets.iter().filter(|secret| text.contains(*secret)).map(|s| (name, s)));
    }
    assert!(leaks.is_empty(), "{leaks:?}");
    let mut known: BTreeSet<String> = shown.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.extend(BARE.iter().map(|(name, _)| (*name).to_owned()));
    let missing: Vec<_> = public_types().into_iter().filter(|name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "not looked at: {missing:?}");
}
