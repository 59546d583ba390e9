//! Which sessions a command is about: filters, and IDs by their beginning.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use super::args::{FilterArgs, StateArg};
use super::console::Console;
use super::exit::{self, Failure, Outcome};
use super::progress::{Unit, Work};
use super::report::{counted, escape};
use crate::id::{IdPrefix, SessionId};
use crate::record::State;
use crate::store::{Answer, Filter, Page, Query, SessionStore, Summary};

/// How many sessions are fetched at a time.
pub(crate) const PAGE: usize = 500;
/// The same where they are only written out.
pub(crate) const LONG_PAGE: usize = 4000;
/// How many digits of an ID end a session.
const MIN_DIGITS_TO_END: usize = 4;
/// How many sessions are named when a beginning is ambiguous.
const MAX_CANDIDATES: usize = 5;

/// Sessions in order of ID, page by page.
pub(crate) struct Pages<'a> {
    store: &'a dyn SessionStore,
    query: Query,
    more: bool,
    /// The next page, already asked for.
    ahead: Option<Answer<Page>>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(store: &'a dyn SessionStore, filter: Filter, limit: usize) -> Self {
        let at = store.clock().now();
        Self { store, query: Query { filter, after: None, limit, at }, more: true, ahead: None }
    }

    pub(crate) async fn next(&mut self) -> Outcome<Option<Page>> {
        if !self.more {
            return Ok(None);
        }
        let page = match self.ahead.take() {
            Some(page) => page.await?,
            None => self.store.page(&self.query).await?,
        };
        self.more = page.next.is_some();
        self.query.after = page.next;
        Ok(Some(page))
    }

    /// Asks for the next page, so that the store reads it while this one is written.
    pub(crate) async fn ask_ahead(&mut self) {
        if !self.more {
            return;
        }
        let mut answer = self.store.page(&self.query);
        // A store begins when it is first polled.
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut answer).poll(cx))).await;
        self.ahead = Some(match first {
            Poll::Ready(page) => Answer::ready(page),
            Poll::Pending => answer,
        });
    }
}

/// How much of a walk in order of ID is done before `id`, from 0 to 1: IDs are spread evenly.
pub(crate) fn part_before(id: &SessionId) -> f64 {
    let [a, b, c, d, ..] = *id.as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

/// The sessions a filter selects, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) matched: u64,
    pub(crate) live: u64,
}

impl Count {
    fn add<'a>(&mut self, sessions: impl Iterator<Item = &'a Summary>) {
        for session in sessions {
            self.matched += 1;
            self.live += u64::from(session.state == State::Live);
        }
    }
}

/// The same, unless more than `most` match.
pub(crate) async fn count_up_to(
    store: &dyn SessionStore,
    filter: Filter,
    most: u64,
) -> Outcome<Option<Count>> {
    let mut pages = Pages::new(store, filter, PAGE);
    let mut count = Count::default();
    while let Some(page) = pages.next().await? {
        count.add(page.sessions.iter());
        if count.matched > most {
            return Ok(None);
        }
    }
    Ok(Some(count))
}

pub(crate) async fn count(
    store: &dyn SessionStore,
    filter: Filter,
    console: &mut Console<'_>,
    mut wanted: impl FnMut(&Summary) -> bool,
) -> Outcome<Count> {
    let mut work = Work::begin(console, "counting", Unit::Rows);
    let mut pages = Pages::new(store, filter, LONG_PAGE);
    let mut count = Count::default();
    while let Some(page) = pages.next().await? {
        count.add(page.sessions.iter().filter(|session| wanted(session)));
        let Some(next) = &page.next else { break };
        work.reach(part_before(next));
        if work.advance(console, page.sessions.len() as u64).is_break() {
            let done = format!("counted {}", counted(count.matched, "session"));
            return Err(work.stopped(&done, "repeat the command to begin again"));
        }
    }
    Ok(count)
}

impl FilterArgs {
    /// Whether there is a condition that narrows the selection, beside exceptions and state.
    pub(crate) fn selects(&self) -> bool {
        let times = [self.idle_for, self.older_than, self.newer_than];
        let names = [&self.user, &self.realm];
        self.anonymous
            || names.into_iter().any(Option::is_some)
            || times.iter().any(Option::is_some)
    }

    /// Whether anything at all was given.
    pub(crate) fn is_given(&self) -> bool {
        self.selects() || !self.except.is_empty() || self.state.is_some()
    }

    pub(crate) async fn to_filter(&self, store: &dyn SessionStore) -> Outcome<Filter> {
        let now = store.clock().now();
        let mut filter = Filter::new();
        if let Some(user) = &self.user {
            filter = filter.user(user.as_str());
        }
        if let Some(realm) = &self.realm {
            filter = filter.realm(realm.as_str());
        }
        if self.anonymous {
            filter = filter.anonymous();
        }
        if let Some(when) = self.idle_for {
            filter = filter.idle_since(when.at(now));
        }
        if let Some(when) = self.older_than {
            filter = filter.created_before(when.at(now));
        }
        if let Some(when) = self.newer_than {
            filter = filter.created_after(when.at(now));
        }
        for id in &self.except {
            filter = filter.except(resolve(store, id).await?.id());
        }
        Ok(match self.state {
            None => filter,
            Some(StateArg::Live) => filter.state(State::Live),
            Some(StateArg::Expired) => filter.state(State::Expired),
            Some(StateArg::Ended) => filter.state(State::Ended),
            Some(StateArg::Superseded) => filter.state(State::Superseded),
            Some(StateArg::All) => filter.any_state(),
        })
    }
}

/// The one session an ID names.
#[derive(Clone, Debug)]
pub(crate) enum Resolved {
    /// A session that can be read. Boxed: it is several times as large as an ID.
    Session(Box<Summary>),
    /// One whose record cannot be decoded.
    Corrupt(SessionId),
}

impl Resolved {
    pub(crate) fn id(&self) -> SessionId {
        match self {
            Self::Session(summary) => summary.id,
            Self::Corrupt(id) => *id,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Session(summary) if summary.state == State::Live)
    }
}

/// What the beginning of an ID matches.
enum Resolution {
    None,
    One(Resolved),
    Ambiguous(Vec<Resolved>),
}

/// The session, in whatever state, whose ID is or begins with `text`.
pub(crate) async fn resolve(store: &dyn SessionStore, text: &str) -> Outcome<Resolved> {
    let prefix: IdPrefix = text.parse().map_err(|_| not_an_id(text))?;
    match look_up(store, prefix).await? {
        Resolution::One(session) => Ok(session),
        // Parsed above, so these are hexadecimal digits and no secret.
        Resolution::None => Err(Failure::new(
            exit::NO_SUCH_SESSION,
            format!("no session has an ID that begins with {text}"),
        )
        .next("`list --state all` shows those there are")),
        Resolution::Ambiguous(candidates) => Err(ambiguous(text, &candidates)),
    }
}

/// The same for what is to be ended: a slip of the finger names nobody.
pub(crate) async fn resolve_to_end(store: &dyn SessionStore, text: &str) -> Outcome<Resolved> {
    let digits = text.chars().all(|digit| digit.is_ascii_hexdigit());
    if digits && (1..MIN_DIGITS_TO_END).contains(&text.len()) {
        return Err(Failure::usage(format!("{text} is too short to end a session by"))
            .because(format!("at least {MIN_DIGITS_TO_END} digits of its ID are asked for"))
            .next("`list` shows the IDs"));
    }
    resolve(store, text).await
}

/// Another process removed the session between two looks at it.
pub(crate) fn purged(id: &SessionId) -> Failure {
    Failure::new(exit::NO_SUCH_SESSION, format!("session {id} was purged a moment ago"))
}

async fn look_up(store: &dyn SessionStore, prefix: IdPrefix) -> Outcome<Resolution> {
    let filter = Filter::new().prefix(prefix).any_state();
    let mut pages = Pages::new(store, filter, MAX_CANDIDATES + 1);
    let mut found = Vec::new();
    while found.len() <= MAX_CANDIDATES
        && let Some(page) = pages.next().await?
    {
        found.extend(page.sessions.into_iter().map(|s| Resolved::Session(Box::new(s))));
        found.extend(page.corrupt.into_iter().map(Resolved::Corrupt));
    }
    Ok(match (found.pop(), found.is_empty()) {
        (None, _) => Resolution::None,
        (Some(only), true) => Resolution::One(only),
        (Some(last), false) => {
            found.push(last);
            Resolution::Ambiguous(found)
        }
    })
}

fn ambiguous(text: &str, candidates: &[Resolved]) -> Failure {
    let mut lines: Vec<_> = candidates.iter().take(MAX_CANDIDATES).map(describe).collect();
    if candidates.len() > MAX_CANDIDATES {
        lines.push("and more".into());
    }
    Failure::new(
        exit::NO_SUCH_SESSION,
        format!("{text} is ambiguous: several sessions have an ID that begins so"),
    )
    .because(lines.join("\n"))
    .next("give more digits")
}

fn describe(candidate: &Resolved) -> String {
    match candidate {
        Resolved::Corrupt(id) => format!("{id}  cannot be decoded"),
        Resolved::Session(session) => {
            let user = session.user.as_deref().unwrap_or("anonymous");
            format!("{}  {}  {}", session.id, session.state.as_str(), escape::line(user))
        }
    }
}

/// Never repeats what was given: it may be a cookie, pasted by mistake.
fn not_an_id(text: &str) -> Failure {
    let failure = Failure::usage("what was given is not a session ID")
        .because("an ID, or its beginning, is 1 to 64 hexadecimal digits");
    if looks_like_cookie(text) {
        return failure.next(
            "it looks like a cookie, which is a secret: give it on standard input with \
             `inspect --cookie -`",
        );
    }
    failure.next("`list` shows the IDs")
}

/// Whether `text` has the form `version.key.token.mac`, or holds something that has.
pub(crate) fn looks_like_cookie(text: &str) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(|c| !is_base64(c) && c != '.').any(|word| {
        let long = word.split('.').filter(|part| part.len() >= 40).count();
        word.split('.').count() >= 4 && long >= 2
    })
}
