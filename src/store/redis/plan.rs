//! What a decision was based on and what it came to, as one script call.

use std::collections::HashMap;

use ::redis::{Cmd, Value};
use tokio::time::Instant;

use super::Shared;
use super::layout::{self, Partition, Row, Stamp, UserHash};
use super::link::Kind;
use super::scripts;
use crate::error::{Error, Result};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::random::fill_token;
use crate::record::{Mark, Record};
use crate::store::{SWEEP_DELAY, Write};
use std::time::Duration;

/// How much longer than a record is good for the server keeps it where nobody sweeps.
const SLACK: Duration = Duration::from_secs(24 * 3600);
/// The longest time to live: 10 years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Comparisons and operations on the keys of one partition: all are carried out, or none.
pub(super) struct Plan<'a> {
    shared: &'a Shared,
    partition: Partition,
    at: Timestamp,
    /// Of every row that is written.
    pub(super) stamp: Stamp,
    keys: Vec<String>,
    numbers: HashMap<String, usize>,
    checks: Vec<Vec<u8>>,
    check_count: usize,
    operations: Vec<Vec<u8>>,
    shrinks: bool,
}

/// What became of a plan.
pub(super) enum Tried {
    Done,
    /// Something is not as it was when it was decided. If the connection broke in between, an
    /// earlier attempt may have been carried out.
    Changed {
        in_doubt: bool,
    },
}

impl<'a> Plan<'a> {
    pub(super) fn new(shared: &'a Shared, partition: Partition, at: Timestamp) -> Result<Self> {
        let mut stamp = [0; layout::STAMP_BYTES];
        fill_token(&mut stamp)?;
        Ok(Self {
            shared,
            partition,
            at,
            stamp,
            keys: Vec::new(),
            numbers: HashMap::new(),
            checks: Vec::new(),
            check_count: 0,
            operations: Vec::new(),
            shrinks: false,
        })
    }

    /// Frees memory or ends a session: to be carried out on a full server too.
    pub(super) fn shrinks(mut self) -> Self {
        self.shrinks = true;
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn key(&mut self, key: String) -> Vec<u8> {
        let next = self.keys.len() + 1;
        let number = *self.numbers.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            next
        });
        number.to_string().into_bytes()
    }

    fn check(&mut self, what: &str, key: String, expected: impl IntoIterator<Item = Vec<u8>>) {
        let key = self.key(key);
        self.check_count += 1;
        self.checks.extend([what.as_bytes().to_vec(), key]);
        self.checks.extend(expected);
    }

    fn operate(&mut self, what: &str, key: String, arguments: impl IntoIterator<Item = Vec<u8>>) {
        let key = self.key(key);
        self.operations.extend([what.as_bytes().to_vec(), key]);
        self.operations.extend(arguments);
    }

    pub(super) fn expect_state(&mut self, sealed: &[u8]) {
        self.expect_value(self.shared.keys.state(self.partition), sealed);
    }

    /// That `key` has this value; none if it is empty.
    pub(super) fn expect_value(&mut self, key: String, value: &[u8]) {
        self.check("value", key, [value.to_vec()]);
    }

    /// That the row of `id` is the one with this stamp; `None` if there is to be none.
    pub(super) fn expect_row(&mut self, id: &SessionId, stamp: Option<Stamp>) {
        let key = self.shared.keys.row(id);
        match stamp {
            Some(stamp) => self.check("stamp", key, [stamp.to_vec()]),
            None => self.check("absent", key, []),
        }
    }

    pub(super) fn expect_ending(&mut self, user: &UserHash, sealed: &[u8]) {
        let key = self.shared.keys.endings(self.partition);
        self.check("field", key, [user.to_vec(), sealed.to_vec()]);
    }

    /// That so many records of the user carry no mark.
    pub(super) fn expect_sessions(&mut self, user: &UserHash, count: u64) {
        let key = self.shared.keys.users(self.partition);
        let from = [b"[", &user[..]].concat();
        let to = [b"[", &user[..], &[0xff; 33]].concat();
        self.check("count", key, [from, to, count.to_string().into_bytes()]);
    }

    pub(super) fn put_state(&mut self, state: &layout::State) {
        self.put_value(self.shared.keys.state(self.partition), state.seal());
    }

    pub(super) fn put_value(&mut self, key: String, value: Vec<u8>) {
        self.operate("V", key, [value]);
    }

    pub(super) fn delete(&mut self, key: String) {
        self.operate("D", key, []);
    }

    pub(super) fn put_ending(&mut self, user: &UserHash, sealed: Option<Vec<u8>>) {
        let key = self.shared.keys.endings(self.partition);
        match sealed {
            Some(sealed) => self.operate("H", key, [user.to_vec(), sealed]),
            None => self.operate("h", key, [user.to_vec()]),
        }
    }

    /// Writes a row and its index entries.
    pub(super) fn put(&mut self, write: &Write) {
        let Write { id, before, after } = write;
        let row = Row::seal_record(self.stamp, id, after);
        self.operate("S", self.shared.keys.row(id), [row, lifetime(after, self.at)]);
        let new_entry = layout::entry(id, after.user());
        let old_entry = before.as_ref().map(|before| layout::entry(id, before.user()));
        let same_user = old_entry.as_ref() == Some(&new_entry);
        let (ids, users) =
            (self.shared.keys.ids(self.partition), self.shared.keys.users(self.partition));
        let deadlines = |plan: &Self, over| plan.shared.keys.deadlines(plan.partition, over);
        let (old, new) = (before.as_ref().map(Record::index_key), after.index_key());
        if !same_user {
            if let Some(old_entry) = &old_entry {
                self.operate("R", ids.clone(), [old_entry.clone()]);
            }
            self.operate("A", ids, [b"0".to_vec(), new_entry.clone()]);
        }
        let listed = |record: &Record| Some(layout::hash_of(Some(record.listed_user()?)));
        let (was_listed, is_listed) = (before.as_ref().and_then(listed), listed(after));
        if was_listed != is_listed {
            if let Some(hash) = was_listed {
                self.operate("R", users.clone(), [layout::user_entry(&hash, id)]);
            }
            if let Some(hash) = is_listed {
                self.operate("A", users, [b"0".to_vec(), layout::user_entry(&hash, id)]);
            }
        }
        if old != Some(new) || !same_user {
            if let (Some(old), Some(entry)) = (old, old_entry)
                && (old.over != new.over || !same_user)
            {
                self.operate("R", deadlines(self, old.over), [entry]);
            }
            self.operate("A", deadlines(self, new.over), [layout::score(new), new_entry]);
        }
    }

    /// Rewrites the first bytes of a row, which are what a touch changes.
    pub(super) fn touch(&mut self, id: &SessionId, before: &Record, touched: &Record) {
        let (key, lifetime) = (self.shared.keys.row(id), lifetime(touched, self.at));
        match Row::seal_touched(self.stamp, id, before, touched) {
            Some(first) => self.operate("P", key, [first, lifetime]),
            None => {
                let row = Row::seal_record(self.stamp, id, touched);
                self.operate("S", key, [row, lifetime]);
            }
        }
    }

    /// Removes a row and what the indexes say of it.
    pub(super) fn remove(&mut self, entry: &[u8]) {
        let Some((id, user)) = layout::split_entry(entry) else { return };
        self.operate("D", self.shared.keys.row(&id), []);
        self.operate("R", self.shared.keys.ids(self.partition), [entry.to_vec()]);
        for over in [false, true] {
            let key = self.shared.keys.deadlines(self.partition, over);
            self.operate("R", key, [entry.to_vec()]);
        }
        if let Some(user) = user {
            let key = self.shared.keys.users(self.partition);
            self.operate("R", key, [layout::user_entry(&user, &id)]);
        }
    }

    /// Carries it out, if there is anything to do.
    pub(super) async fn carry_out_if_any(self, until: Instant) -> Result<Tried> {
        if self.is_empty() { Ok(Tried::Done) } else { self.carry_out(until).await }
    }

    /// Carries it out, if nothing it was based on has changed.
    pub(super) async fn carry_out(mut self, until: Instant) -> Result<Tried> {
        let link = &self.shared.link;
        let once = link.is_cluster();
        let mark = once.then(|| self.shared.keys.once(self.partition, self.stamp));
        if let Some(mark) = mark {
            self.key(mark);
        }
        let script = if self.shrinks { &scripts::SHRINKING } else { &scripts::WRITING };
        let reply = link
            .run(script, Kind::Write, until, |command: &mut Cmd| {
                command.arg(self.keys.len()).arg(&self.keys);
                command.arg(u8::from(once)).arg(self.check_count);
                for argument in self.checks.iter().chain(&self.operations) {
                    command.arg(&argument[..]);
                }
            })
            .await?;
        match reply.value {
            Value::Int(1) => Ok(Tried::Done),
            Value::Int(_) => Ok(Tried::Changed { in_doubt: reply.in_doubt }),
            _ => Err(Error::unknown_outcome("the server's answer cannot be understood")),
        }
    }
}

/// How long the server is to keep a record of which nobody sweeps the remains, in milliseconds:
/// well beyond what sweeping would leave.
pub(super) fn lifetime(record: &Record, at: Timestamp) -> Vec<u8> {
    let until = match record.mark() {
        Mark::None => record.expires_at().saturating_add(SWEEP_DELAY),
        Mark::Ended { until, .. } | Mark::Superseded { until, .. } => until,
    };
    let lifetime = until.saturating_since(at).saturating_add(SLACK).min(LONGEST);
    lifetime.as_millis().to_string().into_bytes()
}
