//! Every verb, in process, on a memory store.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::CommandFactory;

use super::args::{ColorChoice, CommandLine};
use super::console::{Console, Screen};
use super::signals::Signals;
use super::{exit, run_with};
use crate::error::{Error, Kind};
use crate::expiry::{Clock, Timeouts, Timestamp};
use crate::id::SessionId;
use crate::keyring::{KeyRing, Scope, seal};
use crate::record::EndedBy;
use crate::store::{
    Access, Answer, Commit, Draft, End, EndReport, Freshness, Import, Imported, Inspected,
    KeyChange, Loaded, Login, MemoryStore, Op, Outcome, Page, Query, Records, Remove, SessionStore,
    Stats, Sweep, Swept, Timing,
};

mod changing;
mod inspecting;
mod keys;
mod listing;
mod transfer;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A memory store that outlives the command, and watches the output while it is asked.
#[derive(Clone)]
struct Watched {
    inner: MemoryStore,
    written: Arc<AtomicU64>,
    /// Bytes written when each page was asked for.
    seen: Arc<parking_lot::Mutex<Vec<u64>>>,
    /// A record that cannot be decoded.
    corrupt: Arc<parking_lot::Mutex<Option<SessionId>>>,
}

impl SessionStore for Watched {
    fn clock(&self) -> Clock {
        self.inner.clock()
    }
    fn load(&self, id: &SessionId, access: &Access) -> Answer<Loaded> {
        self.inner.load(id, access)
    }
    fn commit(&self, commit: Commit) -> Answer<Outcome> {
        self.inner.commit(commit)
    }
    fn touch(&self, _: &SessionId, _: &Access) {
        unreachable!("the tool is no activity");
    }
    fn inspect(&self, id: &SessionId) -> Answer<Option<Inspected>> {
        if *self.corrupt.lock() == Some(*id) {
            return Answer::ready(Err(Error::new(Kind::Corrupt, "it cannot be decoded")));
        }
        self.inner.inspect(id)
    }
    fn page(&self, query: &Query) -> Answer<Page> {
        self.seen.lock().push(self.written.load(Ordering::Relaxed));
        let (first, last) = query.filter.id_range();
        let met = |id: &SessionId| query.after.is_none() && (first..=last).contains(id);
        let corrupt = self.corrupt.lock().filter(met);
        let page = self.inner.page(query).now().ok().unwrap();
        Answer::ready(page.map(|page| Page { corrupt: corrupt.into_iter().collect(), ..page }))
    }
    fn end(&self, end: End) -> Answer<EndReport> {
        self.inner.end(end)
    }
    fn sweep(&self, sweep: Sweep) -> Answer<Swept> {
        self.inner.sweep(sweep)
    }
    fn remove(&self, remove: Remove) -> Answer<Swept> {
        self.inner.remove(remove)
    }
    fn records(&self, query: &Query) -> Answer<Records> {
        self.inner.records(query)
    }
    fn import(&self, import: Import) -> Answer<Imported> {
        self.inner.import(import)
    }
    fn stats(&self) -> Answer<Stats> {
        self.inner.stats()
    }
    fn timing(&self) -> Answer<Timing> {
        self.inner.timing()
    }
    fn keys(&self, freshness: Freshness) -> Answer<KeyRing> {
        self.inner.keys(freshness)
    }
    fn change_keys(&self, change: KeyChange) -> Answer<KeyRing> {
        self.inner.change_keys(change)
    }
    fn close(&self) -> Answer<()> {
        Answer::ready(Ok(()))
    }
}

struct Counting<'a>(&'a mut Vec<u8>, &'a AtomicU64);

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        self.1.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that went away.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command left behind.
#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn done(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (exit::DONE, ""), "{self:?}");
        self
    }

    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// A store with sessions, and who sits in front of it.
struct Desk {
    store: Watched,
    clock: Clock,
    screen: Screen,
    stdin: String,
    signals: Signals,
}

impl Desk {
    fn new() -> Self {
        Self::with(|store| store)
    }

    fn with(
        configure: impl FnOnce(crate::store::MemoryStoreBuilder) -> crate::store::MemoryStoreBuilder,
    ) -> Self {
        let clock = Clock::manual(NOW);
        let builder = MemoryStore::builder().clock(clock.clone());
        let inner = configure(builder).build().unwrap();
        let store = Watched {
            inner,
            written: Arc::default(),
            seen: Arc::default(),
            corrupt: Arc::default(),
        };
        Self {
            store,
            clock,
            screen: Screen::default(),
            stdin: String::new(),
            signals: Signals::deaf(),
        }
    }

    /// In front of a terminal, typing `stdin`.
    fn interactive(mut self, stdin: &str) -> Self {
        let all = Screen { stdin: true, stdout: true, stderr: true, width: 100, no_color: true };
        self.screen = all;
        self.stdin = stdin.into();
        self
    }

    fn run(&self, line: &str) -> Ran {
        let words: Vec<_> = line.split_whitespace().collect();
        self.run_words(&words)
    }

    fn run_words(&self, words: &[&str]) -> Ran {
        let mut out = Vec::new();
        let (code, err) = self.run_into(words, &mut Counting(&mut out, &self.store.written));
        Ran { code, out: String::from_utf8(out).unwrap(), err }
    }

    fn run_into(&self, words: &[&str], stdout: &mut dyn Write) -> (u8, String) {
        let mut stderr = Vec::new();
        let mut console = Console {
            program: "fastsession".into(),
            stdin: &mut self.stdin.as_bytes(),
            stdout,
            stderr: &mut stderr,
            screen: self.screen,
            quiet: false,
            color: ColorChoice::Auto,
            signals: self.signals.clone(),
            drawn: false,
        };
        let args: Vec<_> =
            std::iter::once("fastsession").chain(words.iter().copied()).map(Into::into).collect();
        let store = self.store.clone();
        let opener = move |_: &_, _| Ok(Arc::new(store.clone()) as Arc<dyn SessionStore>);
        let code = run_with(&args, None, &mut console, &opener);
        (code, String::from_utf8(stderr).unwrap())
    }

    fn commit(&self, id: SessionId, op: Op) -> Outcome {
        let access = Access { timeouts: Some(Timeouts::default()), ..Access::at(self.clock.now()) };
        let commit = Commit { id, access, max_data_bytes: 1 << 20, op };
        self.store.inner.commit(commit).now().ok().unwrap().unwrap()
    }

    /// A session of `user`, or of nobody, whose ID is `byte` throughout.
    fn create(&self, byte: u8, user: Option<&str>) -> String {
        self.create_id([byte; 32], user, Draft::default())
    }

    fn create_id(&self, id: [u8; 32], user: Option<&str>, draft: Draft) -> String {
        let id = SessionId::from_bytes(id);
        let login = user.map(|user| Login { user: user.into(), cap: None });
        let made = self.commit(id, Op::Create { realm: None, draft, login });
        assert!(matches!(made, Outcome::Committed(_)));
        id.to_string()
    }

    fn end(&self, byte: u8) {
        let op = Op::End { by: EndedBy::Application, grace: Duration::ZERO };
        self.commit(SessionId::from_bytes([byte; 32]), op);
    }

    fn live(&self) -> usize {
        let ids = self.run("list --format ids");
        ids.out.lines().count()
    }
}

#[test]
fn the_command_line_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn help_names_verbs_aliases_and_exit_codes() {
    let desk = Desk::new();
    let help = desk.run("--help").done().out;
    let verbs = ["init", "list", "inspect", "expire", "purge", "key", "stats"];
    for word in verbs.into_iter().chain(["ls", "show", "revoke", "--db", "ambiguous"]) {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
    for verb in verbs {
        desk.run(&format!("{verb} --help")).done();
    }
    assert!(desk.run("--version").done().out.starts_with("fastsession "));
}

#[test]
fn what_is_not_understood_is_a_usage_error() {
    let desk = Desk::new();
    for line in ["", "frobnicate", "list --idle-for soon", "list --json --format csv", "--wait 5"] {
        let ran = desk.run(line);
        assert_eq!(ran.code, exit::USAGE, "{line}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{ran:?}");
    }
}

#[test]
fn global_options_stand_before_or_after_the_verb() {
    let desk = Desk::new();
    assert_eq!(desk.run("-q --json --db x list").done().out, "[]\n");
    assert_eq!(desk.run("list --db x --json -q").done().out, "[]\n");
}

#[test]
fn a_broken_pipe_is_success() {
    let desk = Desk::new();
    desk.create(1, None);
    for line in ["list", "list --json", "stats", "key list", "--help", "inspect 01"] {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(desk.run_into(&words, &mut Closed), (exit::DONE, String::new()), "{line}");
    }
}

#[test]
fn a_cookie_in_the_wrong_place_is_not_repeated() {
    let desk = Desk::new();
    let ring = KeyRing::generate(NOW).unwrap();
    let token = crate::id::SessionToken::generate().unwrap();
    let cookie = seal(&ring, &Scope::cookie("sid"), &token);
    let pair = format!("sid={cookie}");
    for verb in ["inspect", "expire", "list --except", "inspect --cookie", "key retire", ""] {
        for secret in [&cookie, &pair] {
            let mut words: Vec<_> = verb.split_whitespace().collect();
            words.push(secret);
            let ran = desk.run_words(&words);
            assert_eq!(ran.code, exit::USAGE, "{ran:?}");
            let part = &cookie[12..40];
            assert!(!ran.err.contains(part) && !ran.out.contains(part), "{verb}: {}", ran.err);
        }
    }
}

#[test]
fn arguments_do_not_act_on_a_terminal() {
    let mut desk = Desk::new();
    desk.screen.stderr = true;
    for line in
        ["\u{1b}]0;title\u{7}", "list --\u{202e}user", "inspect \u{9b}31m", "list --sort \u{1b}[2J"]
    {
        for more in ["", " --color always"] {
            let ran = desk.run(&format!("{line}{more}"));
            assert_ne!(ran.code, exit::DONE);
            // A colour begins with one; nothing else may.
            let text = ran.err.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
            let strange = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
            assert_eq!(strange, None, "{text:?}");
        }
    }
}

#[test]
fn color_is_for_terminals_unless_asked_for() {
    let colored = |desk: &Desk, line: &str| desk.run(line).err.contains('\x1b');
    let mut desk = Desk::new();
    assert!(!colored(&desk, "inspect 01"));
    assert!(colored(&desk, "inspect 01 --color always"));
    desk.screen.stderr = true;
    assert!(colored(&desk, "inspect 01"));
    assert!(!colored(&desk, "inspect 01 --color never"));
    desk.screen.no_color = true;
    assert!(!colored(&desk, "inspect 01"));
}
