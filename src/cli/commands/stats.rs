//! `stats`: counts, sizes and what to do about growth.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use serde::Serialize;

use super::Context;
use crate::cli::console::{Console, Style};
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::report::{self, counted};
use crate::cli::select::{PAGE, Pages};
use crate::expiry::Timestamp;
use crate::record::State;
use crate::store::{self, Filter, SessionStore, Summary};

/// Characters of the longest bar.
const BAR: u64 = 30;
/// Bytes below which free space in the file is not worth mentioning: 64 MiB.
const FREE_WORTH_A_WORD: u64 = 64 << 20;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[derive(Debug, Default, Serialize)]
struct Statistics {
    sessions: Counts,
    /// Different users with a live session.
    users: u64,
    /// Live sessions without a user.
    anonymous: u64,
    bytes: Bytes,
    /// Live sessions by time since their creation.
    age: Histogram,
    /// Live sessions by time since their last recorded activity.
    idle: Histogram,
    /// Live sessions by their size in bytes.
    size: Histogram,
    corrupt: u64,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    live: u64,
    expired: u64,
    ended: u64,
    superseded: u64,
}

#[derive(Debug, Default, Serialize)]
struct Bytes {
    /// Of live sessions.
    live: u64,
    /// Of all records.
    stored: u64,
    free: Option<u64>,
    file: Option<u64>,
}

/// How many values are below each bound, and not below the one before.
#[derive(Debug, Default, Serialize)]
struct Histogram(Vec<Bucket>);

#[derive(Debug, Serialize)]
struct Bucket {
    #[serde(skip)]
    label: &'static str,
    /// Seconds or bytes; `null` for the last, which has no bound.
    below: Option<u64>,
    count: u64,
}

pub(crate) async fn run(context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let statistics = Statistics::collect(context.store).await?;
    report::object(context.console, context.format, &statistics, |console| {
        statistics.draw(console)
    })?;
    for advice in statistics.advice() {
        context.console.note(&advice);
    }
    if statistics.corrupt == 0 {
        return Ok(DONE);
    }
    let what = format!("{} cannot be decoded", counted(statistics.corrupt, "record"));
    Err(Failure::new(CORRUPT, what).next("restore the database from a backup if this spreads"))
}

impl Statistics {
    async fn collect(store: &dyn SessionStore) -> Outcome<Self> {
        let now = store.clock().now();
        let mut all = Self {
            age: Histogram::of_seconds(),
            idle: Histogram::of_seconds(),
            size: Histogram::of_bytes(),
            ..Self::default()
        };
        // Hashes, which take eight bytes a user however long the names are.
        let (mut users, hasher) = (HashSet::new(), RandomState::new());
        let mut pages = Pages::new(store, Filter::new().any_state(), PAGE);
        while let Some(page) = pages.next().await? {
            all.corrupt += page.corrupt.len() as u64;
            for session in &page.sessions {
                all.add(session, now);
                if let (State::Live, Some(user)) = (session.state, &session.user) {
                    users.insert(hasher.hash_one(user));
                }
            }
        }
        all.users = users.len() as u64;
        all.add_sizes(&store.stats().await?);
        Ok(all)
    }

    fn add(&mut self, session: &Summary, now: Timestamp) {
        let Counts { live, expired, ended, superseded } = &mut self.sessions;
        match session.state {
            State::Live => *live += 1,
            State::Expired => *expired += 1,
            State::Ended => *ended += 1,
            State::Superseded => *superseded += 1,
        }
        if session.state == State::Live {
            let since = |at| now.saturating_since(at);
            self.anonymous += u64::from(session.user.is_none());
            self.bytes.live += session.size_bytes as u64;
            self.age.add_duration(since(session.created_at));
            self.idle.add_duration(since(session.last_seen_at));
            self.size.add(session.size_bytes as u64);
        }
    }

    fn add_sizes(&mut self, stats: &store::Stats) {
        self.bytes.stored = stats.stored_bytes;
        self.bytes.free = stats.free_bytes;
        self.bytes.file = stats.file_bytes;
    }

    fn over(&self) -> u64 {
        self.sessions.expired + self.sessions.ended + self.sessions.superseded
    }

    fn draw(&self, console: &Console<'_>) -> String {
        let Counts { live, expired, ended, superseded } = self.sessions;
        let Bytes { live: live_bytes, stored, free, file } = self.bytes;
        let users = format!("{}, and {} anonymous", self.users, self.anonymous);
        let size = |bytes| report::size(bytes);
        let lines = [
            ("live", Some(counted(live, "session"))),
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
        let histograms = [("age", &self.age), ("idle for", &self.idle), ("size", &self.size)];
        for (name, histogram) in histograms.into_iter().filter(|_| live > 0) {
            let heading = console.paint(Style::Bold, name);
            out = out + "\n" + &heading + "\n" + &histogram.draw(console);
        }
        out
    }

    /// What to do about growth.
    fn advice(&self) -> Vec<String> {
        let (live, over) = (self.sessions.live, self.over());
        let mut advice = Vec::new();
        if over > live && over >= PAGE as u64 {
            advice.push(format!("`purge` removes {} that are over", counted(over, "record")));
        }
        if self.anonymous > live / 2 && self.anonymous >= 10 * PAGE as u64 {
            advice.push(
                "most live sessions are anonymous: what does the application write for a \
                         mere visitor? `expire --anonymous --idle-for 1h` ends the idle ones"
                    .into(),
            );
        }
        if let (Some(free), Some(file)) = (self.bytes.free, self.bytes.file)
            && free > (file / 2).max(FREE_WORTH_A_WORD)
        {
            advice.push(format!(
                "{} of the file are free: new sessions use them before it grows",
                report::size(free)
            ));
        }
        advice
    }
}

impl Histogram {
    fn of_seconds() -> Self {
        Self::new(&[
            ("under a minute", 60),
            ("under an hour", HOUR),
            ("under a day", DAY),
            ("under a week", 7 * DAY),
            ("under 30 days", 30 * DAY),
        ])
    }

    fn of_bytes() -> Self {
        Self::new(&[
            ("under 256 B", 256),
            ("under 1 KiB", 1 << 10),
            ("under 4 KiB", 1 << 12),
            ("under 16 KiB", 1 << 14),
            ("under 64 KiB", 1 << 16),
        ])
    }

    fn new(bounds: &[(&'static str, u64)]) -> Self {
        let bounded = bounds.iter().map(|&(label, below)| (label, Some(below)));
        let bucket = |(label, below)| Bucket { label, below, count: 0 };
        Self(bounded.chain([("more", None)]).map(bucket).collect())
    }

    fn add_duration(&mut self, duration: Duration) {
        self.add(duration.as_secs());
    }

    fn add(&mut self, value: u64) {
        let bucket =
            self.0.iter_mut().find(|bucket| bucket.below.is_none_or(|below| value < below));
        if let Some(bucket) = bucket {
            bucket.count += 1;
        }
    }

    fn draw(&self, console: &Console<'_>) -> String {
        let most = self.0.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
        self.0.iter().fold(String::new(), |out, bucket| {
            // Rounded up: whatever is there at all is seen.
            let length = (bucket.count.saturating_mul(BAR)).div_ceil(most);
            let bar = "█".repeat(usize::try_from(length).unwrap_or(0));
            let bar = console.paint(Style::Cyan, &bar);
            let line = format!("  {:<14}  {:>8}  {bar}", bucket.label, bucket.count);
            out + line.trim_end() + "\n"
        })
    }
}
