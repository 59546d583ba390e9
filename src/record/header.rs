//! The metadata of a record, unpacked for editing, and how it is packed again.

use std::time::Duration;

use super::{
    ENDED, HAS_AUTHENTICATED, HAS_LABEL, HAS_REALM, HAS_USER, IndexKey, MAX_LABEL_BYTES,
    MAX_REALM_BYTES, MAX_USER_BYTES, Mark, REMEMBERED, SUPERSEDED, form, varint,
};
use crate::error::{Error, Kind, Result};
use crate::expiry::{Timeouts, Timestamp};

/// The metadata of a [`Record`](super::Record), unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// When the session was created.
    pub created_at: Timestamp,
    /// When activity was last recorded.
    pub last_seen_at: Timestamp,
    /// When it is over whatever happens.
    pub absolute_at: Timestamp,
    /// How long it lives without activity; stored in whole seconds, rounded up.
    pub idle: Duration,
    /// Whether it carries timeouts of its own (`remember`).
    pub remembered: bool,
    /// The bucket of the deadline index it is filed under.
    pub(crate) bucket: u32,
    /// How often it was committed.
    pub version: u64,
    /// The store's generation at creation or login.
    pub generation: u64,
    /// When its user signed in.
    pub authenticated_at: Option<Timestamp>,
    /// Which layer it belongs to.
    pub realm: Option<Box<str>>,
    /// The user bound to it at login.
    pub user: Option<Box<str>>,
    /// What the application shows a person.
    pub label: Option<Box<str>>,
    /// Whether it was ended or replaced.
    pub mark: Mark,
}

impl Header {
    /// The header of a session that begins at `at` with these timeouts.
    pub fn new(at: Timestamp, timeouts: &Timeouts) -> Self {
        let mut header = Self {
            created_at: at,
            last_seen_at: at,
            absolute_at: at.saturating_add(timeouts.absolute),
            idle: timeouts.idle,
            remembered: false,
            bucket: 0,
            version: 1,
            generation: 0,
            authenticated_at: None,
            realm: None,
            user: None,
            label: None,
            mark: Mark::None,
        };
        header.refile();
        header
    }

    /// Files the record under the bucket of its deadline.
    pub(crate) fn refile(&mut self) {
        self.bucket = IndexKey::bucket_of(self.filed_until());
    }

    /// Refiles only if the deadline moved to an earlier bucket. A later one is left to the
    /// sweeper, so that activity never writes the index.
    pub(crate) fn refile_if_earlier(&mut self) {
        self.bucket = self.bucket.min(IndexKey::bucket_of(self.filed_until()));
    }

    /// By whole seconds of the idle timeout, as it is stored.
    pub(super) fn filed_until(&self) -> Timestamp {
        let idle = Duration::from_secs(u64::from(self.idle_seconds()));
        match self.mark {
            Mark::None => self.last_seen_at.saturating_add(idle).min(self.absolute_at),
            Mark::Ended { until, .. } | Mark::Superseded { until, .. } => until,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let bounded = |what: &str, value: &Option<Box<str>>, max: usize| match value {
            Some(text) if text.len() > max => {
                Err(Error::new(Kind::TooLarge, format!("a {what} has at most {max} bytes")))
            }
            _ => Ok(()),
        };
        bounded("user", &self.user, MAX_USER_BYTES)?;
        bounded("label", &self.label, MAX_LABEL_BYTES)?;
        bounded("realm", &self.realm, MAX_REALM_BYTES)
    }

    /// No fewer bytes than it takes.
    pub(super) fn most_bytes(&self) -> usize {
        const MARK: usize = 48;
        let len = |text: &Option<Box<str>>| {
            text.as_ref().map_or(0, |text| varint::MOST_BYTES + text.len())
        };
        form::MOST_BYTES + len(&self.realm) + len(&self.user) + len(&self.label) + MARK
    }

    /// Whole seconds, rounded up, so that a short timeout never becomes none.
    pub(super) fn idle_seconds(&self) -> u32 {
        let partial = u64::from(self.idle.subsec_nanos() > 0);
        u32::try_from(self.idle.as_secs().saturating_add(partial)).unwrap_or(u32::MAX)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.authenticated_at.is_some(), HAS_AUTHENTICATED)
            | flag(self.realm.is_some(), HAS_REALM)
            | flag(self.user.is_some(), HAS_USER)
            | flag(self.label.is_some(), HAS_LABEL)
            | flag(self.remembered, REMEMBERED)
            | match self.mark {
                Mark::None => 0,
                Mark::Ended { .. } => ENDED,
                Mark::Superseded { .. } => SUPERSEDED,
            };
        if let Some((fixed, authenticated)) = self.compact() {
            out.extend_from_slice(&[form::COMPACT, flags]);
            out.extend_from_slice(&fixed);
            out.extend(authenticated.into_iter().flatten());
        } else {
            out.extend_from_slice(&[form::WIDE, flags]);
            self.encode_wide(out);
        }
        for text in [&self.realm, &self.user, &self.label].into_iter().flatten() {
            // Bounded far below 4 GiB, which is checked before encoding.
            varint::push(out, u32::try_from(text.len()).unwrap_or(u32::MAX));
            out.extend_from_slice(text.as_bytes());
        }
        match self.mark {
            Mark::None => {}
            Mark::Ended { at, until, grace, by } => {
                for at in [at, until, grace] {
                    out.extend_from_slice(&at.as_millis().to_le_bytes());
                }
                out.push(by.code());
            }
            Mark::Superseded { at, until, successor } => {
                out.extend_from_slice(&at.as_millis().to_le_bytes());
                out.extend_from_slice(&until.as_millis().to_le_bytes());
                out.extend_from_slice(successor.as_bytes());
            }
        }
    }

    pub(super) fn encode_wide(&self, out: &mut Vec<u8>) {
        for at in [self.created_at, self.last_seen_at, self.absolute_at] {
            out.extend_from_slice(&at.as_millis().to_le_bytes());
        }
        out.extend_from_slice(&self.idle_seconds().to_le_bytes());
        out.extend_from_slice(&self.bucket.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        if let Some(at) = self.authenticated_at {
            out.extend_from_slice(&at.as_millis().to_le_bytes());
        }
    }
}
