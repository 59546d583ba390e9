//! `stats`: counts, sizes and what to do about growth.
//!
//! A large store is sampled unless `--full` is given: IDs are hashes, so that some ranges of them,
//! spread evenly, hold sessions of every kind in due proportion.

use std::collections::HashMap;
use std::time::Duration;

use super::Context;
use crate::cli::args::StatsArgs;
use crate::cli::console::{Console, Style};
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::progress::{Unit, Work};
use crate::cli::report::{self, Bucket, Bytes, Counts, Statistics, TopUser, counted, escape};
use crate::cli::select::{PAGE, Pages, part_before};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::State;
use crate::store::{self, Filter, Page, Query, SessionStore, Summary};

/// Records from which on a sample is taken.
const SAMPLED_FROM: u64 = 50_000;
/// Ranges of a sample, and sessions looked at in each.
const RANGES: u8 = 64;
const RANGE: usize = 160;
/// Users that are named.
const TOP: usize = 5;
/// Characters of the longest bar.
const BAR: u64 = 30;
/// Bytes below which free space in the file is not worth mentioning: 64 MiB.
const FREE_WORTH_A_WORD: u64 = 64 << 20;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

pub(crate) async fn run(args: &StatsArgs, context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let Context { store, console, format, .. } = context;
    let known = store.quick_stats().await?;
    let mut collected = Collected::new(store.clock().now());
    if args.full || known.records < SAMPLED_FROM {
        collected.everything(store, console).await?;
        collected.add_sizes(&store.stats().await?);
    } else {
        collected.sample(store).await?;
        collected.scale(known.records);
        collected.all.bytes.file = known.file_bytes;
    }
    let statistics = collected.finish();
    report::object(console, format, &statistics, |console| draw(&statistics, console))?;
    for advice in advice(&statistics) {
        console.note(&advice);
    }
    if statistics.corrupt == 0 {
        return Ok(DONE);
    }
    let what = format!("{} cannot be decoded", counted(statistics.corrupt, "record"));
    Err(Failure::new(CORRUPT, what).next("restore the database from a backup if this spreads"))
}

/// What was counted so far.
struct Collected {
    all: Statistics,
    users: HashMap<Box<str>, u64>,
    now: Timestamp,
    looked_at: u64,
}

impl Collected {
    fn new(now: Timestamp) -> Self {
        let all = Statistics {
            age: of_seconds(),
            idle: of_seconds(),
            remaining: of_seconds(),
            size: of_bytes(),
            ..Statistics::default()
        };
        Self { all, users: HashMap::new(), now, looked_at: 0 }
    }

    async fn everything(
        &mut self,
        store: &dyn SessionStore,
        console: &mut Console<'_>,
    ) -> Outcome<()> {
        let mut work = Work::begin(console, "counting", Unit::Rows);
        let mut pages = Pages::new(store, Filter::new().any_state(), 10 * PAGE);
        while let Some(page) = pages.next().await? {
            self.add_page(&page);
            let Some(next) = &page.next else { break };
            work.reach(part_before(next));
            if work.advance(console, page.sessions.len() as u64).is_break() {
                let done = format!("looked at {}", counted(self.looked_at, "session"));
                return Err(work.stopped(&done, "without --full a sample is enough"));
            }
        }
        Ok(())
    }

    async fn sample(&mut self, store: &dyn SessionStore) -> Outcome<()> {
        for range in 0..RANGES {
            let mut from = [0; SessionId::LEN];
            from[0] = range * (u8::MAX / RANGES + 1);
            let query = Query {
                filter: Filter::new().any_state(),
                after: Some(SessionId::from_bytes(from)),
                limit: RANGE,
                at: self.now,
            };
            self.add_page(&store.page(&query).await?);
        }
        Ok(())
    }

    /// Makes estimates for `records` of what was counted in a sample.
    fn scale(&mut self, records: u64) {
        let sampled = self.looked_at.max(1);
        let scale = |count: &mut u64| {
            let scaled = u128::from(*count) * u128::from(records) / u128::from(sampled);
            *count = u64::try_from(scaled).unwrap_or(u64::MAX);
        };
        let all = &mut self.all;
        all.sampled = Some(sampled);
        let Counts { live, expired, ended, superseded } = &mut all.sessions;
        let counts = [live, expired, ended, superseded, &mut all.anonymous, &mut all.corrupt];
        counts.into_iter().chain([&mut all.bytes.live, &mut all.bytes.stored]).for_each(scale);
        let histograms = [&mut all.age, &mut all.idle, &mut all.remaining, &mut all.size];
        histograms.into_iter().flatten().for_each(|bucket| scale(&mut bucket.count));
        // One met once may have as many sessions as the sample has gaps, or one.
        self.users.retain(|_, count| *count > 1);
        self.users.values_mut().for_each(scale);
    }

    fn add_page(&mut self, page: &Page) {
        self.looked_at += (page.sessions.len() + page.corrupt.len()) as u64;
        self.all.corrupt += page.corrupt.len() as u64;
        for session in &page.sessions {
            self.add(session);
            self.all.bytes.stored += session.size_bytes as u64;
        }
    }

    fn finish(mut self) -> Statistics {
        self.all.users = self.all.sampled.is_none().then_some(self.users.len() as u64);
        let mut users: Vec<_> = self.users.into_iter().collect();
        users.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let top = users.into_iter().filter(|(_, count)| *count > 1).take(TOP);
        self.all.top_users =
            top.map(|(user, sessions)| TopUser { user: user.into(), sessions }).collect();
        self.all
    }

    fn add(&mut self, session: &Summary) {
        let Counts { live, expired, ended, superseded } = &mut self.all.sessions;
        match session.state {
            State::Live => *live += 1,
            State::Expired => *expired += 1,
            State::Ended => *ended += 1,
            State::Superseded => *superseded += 1,
        }
        if session.state == State::Live {
            let since = |at| self.now.saturating_since(at);
            match &session.user {
                Some(user) => *self.users.entry(user.clone()).or_default() += 1,
                None => self.all.anonymous += 1,
            }
            self.all.bytes.live += session.size_bytes as u64;
            add_duration(&mut self.all.age, since(session.created_at));
            add_duration(&mut self.all.idle, since(session.last_seen_at));
            let remaining = session.expires_at.saturating_since(self.now);
            add_duration(&mut self.all.remaining, remaining);
            add(&mut self.all.size, session.size_bytes as u64);
        }
    }

    fn add_sizes(&mut self, stats: &store::Stats) {
        let bytes = &mut self.all.bytes;
        bytes.stored = stats.stored_bytes;
        (bytes.free, bytes.file) = (stats.free_bytes, stats.file_bytes);
    }
}

fn over(statistics: &Statistics) -> u64 {
    let Counts { expired, ended, superseded, .. } = statistics.sessions;
    expired + ended + superseded
}

fn draw(all: &Statistics, console: &Console<'_>) -> String {
    let Counts { live, expired, ended, superseded } = all.sessions;
    let Bytes { live: live_bytes, stored, free, file } = all.bytes;
    let anonymous = format!("{} anonymous", all.anonymous);
    let users =
        all.users.map_or_else(|| anonymous.clone(), |users| format!("{users}, and {anonymous}"));
    let size = |bytes| report::size(bytes);
    let estimated = |count| match all.sampled {
        Some(sampled) => format!("about {}, from {sampled} looked at", counted(count, "session")),
        None => counted(count, "session"),
    };
    let lines = [
        ("live", Some(estimated(live))),
        ("expired", Some(expired.to_string())),
        ("ended", Some(ended.to_string())),
        ("superseded", Some(superseded.to_string())),
        ("users", Some(users)),
        ("live data", Some(size(live_bytes))),
        ("stored", Some(size(stored))),
        ("free", free.map(size)),
        ("file", file.map(size)),
    ];
    let mut out = report::fields(console, lines);
    let histograms = [
        ("age", &all.age),
        ("idle for", &all.idle),
        ("time to expiry", &all.remaining),
        ("size", &all.size),
    ];
    for (name, histogram) in histograms.into_iter().filter(|_| live > 0) {
        let heading = console.paint(Style::Bold, name);
        out = out + "\n" + &heading + "\n" + &draw_histogram(histogram, console);
    }
    if !all.top_users.is_empty() {
        out = out + "\n" + &console.paint(Style::Bold, "most sessions") + "\n";
    }
    for TopUser { user, sessions } in &all.top_users {
        let name: String = escape::line(user).chars().take(40).collect();
        out = format!("{out}  {sessions:>8}  {name}\n");
    }
    out
}

/// What to do about growth.
fn advice(all: &Statistics) -> Vec<String> {
    let (live, over) = (all.sessions.live, over(all));
    let mut advice = Vec::new();
    if over > live && over >= PAGE as u64 {
        advice.push(format!("`purge` removes {} that are over", counted(over, "record")));
    }
    if all.anonymous > live / 2 && all.anonymous >= 10 * PAGE as u64 {
        advice.push(
            "most live sessions are anonymous: what does the application write for a \
                     mere visitor? `expire --anonymous --idle-for 1h` ends the idle ones"
                .into(),
        );
    }
    if let (Some(free), Some(file)) = (all.bytes.free, all.bytes.file)
        && free > (file / 2).max(FREE_WORTH_A_WORD)
    {
        advice.push(format!(
            "{} of the file are free: new sessions use them before it grows",
            report::size(free)
        ));
    }
    if all.sampled.is_some() {
        advice.push("counts and sizes are estimates from a sample; --full counts".into());
    }
    advice
}

fn of_seconds() -> Vec<Bucket> {
    buckets(&[60, HOUR, DAY, 7 * DAY, 30 * DAY])
}

fn of_bytes() -> Vec<Bucket> {
    buckets(&[256, 1 << 10, 1 << 12, 1 << 14, 1 << 16])
}

fn buckets(bounds: &[u64]) -> Vec<Bucket> {
    let bounds = bounds.iter().copied().map(Some).chain([None]);
    bounds.map(|below| Bucket { below, count: 0 }).collect()
}

fn label(below: Option<u64>) -> &'static str {
    match below {
        Some(60) => "under a minute",
        Some(HOUR) => "under an hour",
        Some(DAY) => "under a day",
        Some(256) => "under 256 B",
        Some(1024) => "under 1 KiB",
        Some(4096) => "under 4 KiB",
        Some(16_384) => "under 16 KiB",
        Some(65_536) => "under 64 KiB",
        Some(bound) if bound == 7 * DAY => "under a week",
        Some(_) => "under 30 days",
        None => "more",
    }
}

fn add_duration(histogram: &mut [Bucket], duration: Duration) {
    add(histogram, duration.as_secs());
}

fn add(histogram: &mut [Bucket], value: u64) {
    let is_its = |bucket: &&mut Bucket| bucket.below.is_none_or(|below| value < below);
    if let Some(bucket) = histogram.iter_mut().find(is_its) {
        bucket.count += 1;
    }
}

fn draw_histogram(histogram: &[Bucket], console: &Console<'_>) -> String {
    let most = histogram.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    histogram.iter().fold(String::new(), |out, bucket| {
        // Rounded up: whatever is there at all is seen.
        let length = (bucket.count.saturating_mul(BAR)).div_ceil(most);
        let bar = "█".repeat(usize::try_from(length).unwrap_or(0));
        let bar = console.paint(Style::Cyan, &bar);
        let line = format!("  {:<14}  {:>8}  {bar}", label(bucket.below), bucket.count);
        out + line.trim_end() + "\n"
    })
}
