//! What is stored of a session: one packed, immutable byte string with typed accessors.
//!
//! A store hands the same bytes to the disk, to another machine and to the reader of a value, so
//! a record is not a tree of allocations that has to be built on every load: it is validated once
//! and then read in place. Loading from memory is a reference count; loading from a file is one
//! allocation; reading one key decodes that key alone.
//!
//! # Layout
//!
//! Little-endian, fixed offsets first, so that a touch or an index check reads a few bytes:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 1 | format, 1 |
//! | 1 | 1 | flags: which optional fields follow, and the [`Mark`] |
//! | 2 | 8 | created, milliseconds |
//! | 10 | 8 | last seen, milliseconds |
//! | 18 | 8 | absolute deadline, milliseconds |
//! | 26 | 4 | idle timeout, seconds |
//! | 30 | 4 | bucket of the deadline index this record is filed under |
//! | 34 | 8 | version: how often it was committed |
//! | 42 | 8 | generation at creation or login |
//! | 50 | … | optional: authenticated (8), realm (1+n), user (2+n), label (2+n), mark (25 or 48) |
//! | … | … | data: entries in order of key: key length (2), key, value length (4), value |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;

mod data;
mod header;
mod state;
#[cfg(test)]
mod tests;

pub use data::{Changes, Data};
pub use header::Header;
pub use state::{Absence, EndedBy, Ending, Endings, IndexKey, Mark, State};

const FORMAT: u8 = 1;
const FIXED: usize = 50;

const HAS_AUTHENTICATED: u8 = 1;
const HAS_REALM: u8 = 2;
const HAS_USER: u8 = 4;
const HAS_LABEL: u8 = 8;
const REMEMBERED: u8 = 16;
const ENDED: u8 = 32;
const SUPERSEDED: u8 = 64;
const KNOWN_FLAGS: u8 = 127;

/// Longest user name, in bytes.
pub const MAX_USER_BYTES: usize = 1024;
/// Longest label, in bytes.
pub const MAX_LABEL_BYTES: usize = 256;
/// Longest realm name, in bytes.
pub const MAX_REALM_BYTES: usize = 64;

/// A stored session: metadata and data. Cheap to clone.
///
/// `Debug` shows the metadata, never the data.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Arc<[u8]>,
    layout: Layout,
}

/// Where the optional fields and the data begin, found once by [`Record::from_bytes`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct Layout {
    realm: u32,
    user: u32,
    label: u32,
    mark: u32,
    data: u32,
}

impl Record {
    /// Reads a record from what [`Record::as_bytes`] returned.
    ///
    /// Every length, flag, text and order is checked, in time linear in the input and without
    /// allocating for what the input claims; anything unexpected is an `is_corrupt()` error.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        let bytes = bytes.into();
        let layout = Layout::find(&bytes).ok_or_else(corrupt)?;
        Data::validate(&bytes[layout.data as usize..]).ok_or_else(corrupt)?;
        let record = Self { bytes, layout };
        if record.is_plausible() { Ok(record) } else { Err(corrupt()) }
    }

    /// The metadata of a stored record, as [`Record::without_data`] has it, and the size of the
    /// whole. All of it is checked; what a listing does not need is not copied.
    #[cfg(feature = "redb")]
    pub(crate) fn metadata_from_bytes(bytes: &[u8]) -> Result<(Self, usize)> {
        let layout = Layout::find(bytes).ok_or_else(corrupt)?;
        let (header, data) = bytes.split_at(layout.data as usize);
        Data::validate(data).ok_or_else(corrupt)?;
        let record = Self { bytes: header.into(), layout };
        if record.is_plausible() { Ok((record, bytes.len())) } else { Err(corrupt()) }
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A record with this header and this data.
    pub fn new(header: &Header, data: Data<'_>) -> Result<Self> {
        Self::pack(header, data.as_bytes().len(), |out| out.extend_from_slice(data.as_bytes()))
    }

    /// A record with this header and what `changes` make of the data `before`.
    pub(crate) fn changed(header: &Header, before: Data<'_>, changes: &Changes) -> Result<Self> {
        Self::pack(header, changes.most_bytes(before), |out| changes.apply_to(before, out))
    }

    /// What is packed here is in order by construction, and not validated again.
    fn pack(
        header: &Header,
        most_bytes: usize,
        put_data: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Self> {
        header.check()?;
        let mut out = Vec::with_capacity(header.most_bytes() + most_bytes);
        let layout = header.encode(&mut out);
        put_data(&mut out);
        if u32::try_from(out.len()).is_err() {
            return Err(Error::new(Kind::TooLarge, "a session has at most 4 GiB"));
        }
        let record = Self { bytes: out.into(), layout };
        debug_assert_eq!(Self::from_bytes(record.as_bytes()).ok().as_ref(), Some(&record));
        Ok(record)
    }

    /// The metadata, unpacked for editing.
    pub fn header(&self) -> Header {
        Header {
            created_at: self.created_at(),
            last_seen_at: self.last_seen_at(),
            absolute_at: self.absolute_at(),
            idle: self.idle_timeout(),
            remembered: self.is_remembered(),
            bucket: self.bucket(),
            version: self.version(),
            generation: self.generation(),
            authenticated_at: self.authenticated_at(),
            realm: self.realm().map(Into::into),
            user: self.user().map(Into::into),
            label: self.label().map(Into::into),
            mark: self.mark(),
        }
    }

    /// The same metadata without the data: what is left of a session that ended, and what a
    /// listing needs.
    #[must_use]
    pub fn without_data(&self) -> Self {
        let bytes = Arc::from(&self.bytes[..self.layout.data as usize]);
        Self { bytes, layout: self.layout }
    }

    /// The same record, last seen at `at` if that is later. Rewrites no data.
    #[must_use]
    pub fn touched(&self, at: Timestamp) -> Self {
        if at <= self.last_seen_at() {
            return self.clone();
        }
        let mut bytes: Arc<[u8]> = Arc::from(&*self.bytes);
        if let Some(unshared) = Arc::get_mut(&mut bytes) {
            unshared[10..18].copy_from_slice(&at.as_millis().to_le_bytes());
        }
        Self { bytes, layout: self.layout }
    }

    /// The data: keys and their encoded values.
    pub fn data(&self) -> Data<'_> {
        Data::packed(&self.bytes[self.layout.data as usize..])
    }

    /// When the session was created. A renewal keeps it.
    pub fn created_at(&self) -> Timestamp {
        self.timestamp(2)
    }

    /// When activity was last recorded; the true last activity may be a touch interval later.
    pub fn last_seen_at(&self) -> Timestamp {
        self.timestamp(10)
    }

    /// When it is over whatever happens.
    pub fn absolute_at(&self) -> Timestamp {
        self.timestamp(18)
    }

    /// How long it lives without activity.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(u32::from_le_bytes(self.array(26))))
    }

    /// When it is over unless there is activity, or because of [`Record::absolute_at`].
    pub fn expires_at(&self) -> Timestamp {
        self.last_seen_at().saturating_add(self.idle_timeout()).min(self.absolute_at())
    }

    /// The deadline where the layer's own timeouts are known too: the earlier one wins, unless the
    /// session was given its own by `remember`.
    pub fn expires_at_under(&self, configured: &Timeouts) -> Timestamp {
        if self.is_remembered() {
            return self.expires_at();
        }
        let began = self.authenticated_at().unwrap_or(self.created_at());
        self.expires_at()
            .min(self.last_seen_at().saturating_add(configured.idle))
            .min(began.saturating_add(configured.absolute))
    }

    /// Whether the session carries timeouts of its own (`remember`).
    pub fn is_remembered(&self) -> bool {
        self.has(REMEMBERED)
    }

    /// When its user signed in.
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.has(HAS_AUTHENTICATED).then(|| self.timestamp(FIXED))
    }

    /// Which layer it belongs to, where there are several.
    pub fn realm(&self) -> Option<&str> {
        self.has(HAS_REALM).then(|| {
            let start = self.layout.realm as usize;
            self.text(start + 1, usize::from(self.bytes[start]))
        })
    }

    /// The user bound to it at login.
    pub fn user(&self) -> Option<&str> {
        self.has(HAS_USER).then(|| self.long_text(self.layout.user as usize))
    }

    /// What the application shows a person to recognise the session by.
    pub fn label(&self) -> Option<&str> {
        self.has(HAS_LABEL).then(|| self.long_text(self.layout.label as usize))
    }

    /// How often it was committed.
    pub fn version(&self) -> u64 {
        u64::from_le_bytes(self.array(34))
    }

    /// The store's generation at creation or login; an ending of a later generation ends it.
    pub fn generation(&self) -> u64 {
        u64::from_le_bytes(self.array(42))
    }

    /// Whether it was ended or replaced, and what by.
    pub fn mark(&self) -> Mark {
        let start = self.layout.mark as usize;
        let at = || self.timestamp(start);
        if self.has(ENDED) {
            let by = EndedBy::from_code(self.bytes[start + 24]).unwrap_or(EndedBy::Application);
            let (until, grace) = (self.timestamp(start + 8), self.timestamp(start + 16));
            Mark::Ended { at: at(), until, grace, by }
        } else if self.has(SUPERSEDED) {
            let successor = SessionId::from_bytes(self.array(start + 16));
            Mark::Superseded { at: at(), until: self.timestamp(start + 8), successor }
        } else {
            Mark::None
        }
    }

    /// The bucket of the deadline index it is filed under; see [`IndexKey`].
    pub(crate) fn bucket(&self) -> u32 {
        u32::from_le_bytes(self.array(30))
    }

    /// Bytes of metadata and data together.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn has(&self, flag: u8) -> bool {
        self.bytes[1] & flag != 0
    }

    fn array<const N: usize>(&self, start: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[start..start + N]);
        out
    }

    fn timestamp(&self, start: usize) -> Timestamp {
        Timestamp::from_millis(i64::from_le_bytes(self.array(start)))
    }

    fn long_text(&self, start: usize) -> &str {
        let len = u16::from_le_bytes(self.array(start));
        self.text(start + 2, usize::from(len))
    }

    fn text(&self, start: usize, len: usize) -> &str {
        // `Layout::find` checked the encoding; a record is never built past it.
        std::str::from_utf8(&self.bytes[start..start + len]).unwrap_or_default()
    }

    fn is_plausible(&self) -> bool {
        // Instants are in no certain order: a clock may be stepped back between two of them.
        !self.has(ENDED) || EndedBy::from_code(self.bytes[self.layout.mark as usize + 24]).is_some()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("created_at", &self.created_at())
            .field("last_seen_at", &self.last_seen_at())
            .field("expires_at", &self.expires_at())
            .field("user", &self.user())
            .field("realm", &self.realm())
            .field("mark", &self.mark())
            .field("version", &self.version())
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

fn corrupt() -> Error {
    Error::new(Kind::Corrupt, "a stored session cannot be decoded")
}

impl Layout {
    fn find(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < FIXED || bytes.len() > u32::MAX as usize || bytes[0] != FORMAT {
            return None;
        }
        let flags = bytes[1];
        let marks = flags & (ENDED | SUPERSEDED);
        if flags & !KNOWN_FLAGS != 0 || marks == ENDED | SUPERSEDED {
            return None;
        }
        let mut at = FIXED;
        if flags & HAS_AUTHENTICATED != 0 {
            at += 8;
        }
        let realm = at;
        if flags & HAS_REALM != 0 {
            let len = usize::from(*bytes.get(at)?);
            at = text_end(bytes, at + 1, len, MAX_REALM_BYTES)?;
        }
        let user = at;
        if flags & HAS_USER != 0 {
            at = long_text_end(bytes, at, MAX_USER_BYTES)?;
        }
        let label = at;
        if flags & HAS_LABEL != 0 {
            at = long_text_end(bytes, at, MAX_LABEL_BYTES)?;
        }
        let mark = at;
        at += match marks {
            ENDED => 25,
            SUPERSEDED => 48,
            _ => 0,
        };
        // A mark never carries data: what ended lost it.
        if at > bytes.len() || (marks != 0 && at != bytes.len()) {
            return None;
        }
        let offset = |value: usize| u32::try_from(value).ok();
        Some(Self {
            realm: offset(realm)?,
            user: offset(user)?,
            label: offset(label)?,
            mark: offset(mark)?,
            data: offset(at)?,
        })
    }
}

/// Where the text ends; `None` if it is longer than any that is written.
fn text_end(bytes: &[u8], start: usize, len: usize, most: usize) -> Option<usize> {
    if len > most {
        return None;
    }
    let end = start.checked_add(len)?;
    std::str::from_utf8(bytes.get(start..end)?).ok()?;
    Some(end)
}

fn long_text_end(bytes: &[u8], start: usize, most: usize) -> Option<usize> {
    let len = bytes.get(start..start + 2)?;
    text_end(bytes, start + 2, usize::from(u16::from_le_bytes([len[0], len[1]])), most)
}
