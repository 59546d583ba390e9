//! What is stored of a session: one packed byte string with typed accessors, which never changes
//! while anybody shares it.
//!
//! A store hands the same bytes to the disk, to another machine and to the reader of a value, so
//! a record is not a tree of allocations that has to be built on every load: it is validated once
//! and then read in place. Loading from memory is a reference count; loading from a file is one
//! allocation; reading one key decodes that key alone.
//!
//! # Layout
//!
//! Little-endian, fixed offsets first, so that a touch or an index check reads a few bytes. There
//! are two forms. Nearly every record is of the compact one, in which instants are milliseconds
//! since its creation; what does not fit it (a clock stepped back before the creation, an idle
//! timeout of more than half a year) has the wide one, and only that.
//!
//! | compact | wide | field |
//! | --- | --- | --- |
//! | 0: 1 | 0: 1 | form, 2 or 3 |
//! | 1: 1 | 1: 1 | flags: which optional fields follow, and the [`Mark`] |
//! | 2: 6 | 2: 8 | created, milliseconds |
//! | 8: 5, since created | 10: 8 | last seen |
//! | 13: 5, since created | 18: 8 | absolute deadline |
//! | 18: 3 | 26: 4 | idle timeout, seconds |
//! | 21: 2, less that of its deadline | 30: 4 | bucket of the deadline index it is filed under |
//! | 23: 3 | 34: 8 | version: how often it was committed |
//! | 26: 3 | 42: 8 | generation at creation or login |
//! | 29: … | 50: … | optional: authenticated (5, since created, or 8), realm, user and label (length, text), mark (25 or 48) |
//! | … | … | data: entries in order of key: key length, key, value length, value |
//!
//! Lengths are of one byte below 128, else of as many as 7 bits each take, and no more.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;

mod data;
mod form;
mod header;
mod state;
#[cfg(test)]
mod tests;
mod varint;

pub use data::{Changes, Data};
pub use header::Header;
pub use state::{Absence, EndedBy, Ending, Endings, IndexKey, Mark, State};

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
}

impl Record {
    /// Reads a record from what [`Record::as_bytes`] returned.
    ///
    /// Every length, flag, text and order is checked, in time linear in the input and without
    /// allocating for what the input claims; anything unexpected is an `is_corrupt()` error.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        let bytes = bytes.into();
        let data = checked_header(&bytes).ok_or_else(corrupt)?;
        Data::validate(&bytes[data..]).ok_or_else(corrupt)?;
        let record = Self { bytes };
        if record.is_plausible() { Ok(record) } else { Err(corrupt()) }
    }

    /// The metadata of a stored record, as [`Record::without_data`] has it, and the size of the
    /// whole. All of it is checked; what a listing does not need is not copied.
    #[cfg(feature = "redb")]
    pub(crate) fn metadata_from_bytes(bytes: &[u8]) -> Result<(Self, usize)> {
        let (header, data) = bytes.split_at(checked_header(bytes).ok_or_else(corrupt)?);
        Data::validate(data).ok_or_else(corrupt)?;
        let record = Self { bytes: header.into() };
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
        header.encode(&mut out);
        put_data(&mut out);
        if u32::try_from(out.len()).is_err() {
            return Err(Error::new(Kind::TooLarge, "a session has at most 4 GiB"));
        }
        let record = Self { bytes: out.into() };
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
        Self { bytes: Arc::from(&self.bytes[..self.data_start()]) }
    }

    /// The same record, last seen at `at` if that is later. Rewrites no data.
    #[must_use]
    pub fn touched(&self, at: Timestamp) -> Self {
        if at <= self.last_seen_at() {
            return self.clone();
        }
        if let Some(touched) = form::touched(self, at) {
            return self.altered(|bytes| touched.write_to(bytes));
        }
        let mut header = self.header();
        header.last_seen_at = at;
        Self::new(&header, self.data()).unwrap_or_else(|_| self.clone())
    }

    /// The same record committed once more, at `at`, with `changes` to its data and none to its
    /// metadata: nearly every commit is one, and needs no unpacking. `None` if there is more to it.
    pub(crate) fn committed(&self, at: Timestamp, changes: &Changes) -> Option<Self> {
        let fields = form::committed(self, at)?;
        let (header, data) = self.bytes.split_at(self.data_start());
        let data = Data::packed(data);
        if let Some((place, value)) = changes.in_place(data) {
            return Some(self.altered(|bytes| {
                fields.write_to(bytes);
                bytes[header.len()..][place].copy_from_slice(value);
            }));
        }
        let mut out = Vec::with_capacity(header.len() + changes.most_bytes(data));
        out.extend_from_slice(header);
        fields.write_to(&mut out);
        changes.apply_to(data, &mut out);
        u32::try_from(out.len()).ok().map(|_| Self { bytes: out.into() })
    }

    /// Becomes the same record committed once more, at `at`, with `value` written over its data at
    /// `place`, where [`Changes::in_place`] found one as long. False, and nothing is changed, if
    /// somebody else has this record, or if it takes another form.
    pub(crate) fn write_in_place(
        &mut self,
        at: Timestamp,
        place: Range<usize>,
        value: &[u8],
    ) -> bool {
        let Some(fields) = form::committed(self, at) else { return false };
        let start = self.data_start();
        let Some(bytes) = Arc::get_mut(&mut self.bytes) else { return false };
        fields.write_to(bytes);
        bytes[start..][place].copy_from_slice(value);
        true
    }

    /// A first look: [`Record::write_in_place`] makes certain.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.bytes) > 1
    }

    /// A copy of the same length with some bytes written over.
    fn altered(&self, alter: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes: Arc<[u8]> = Arc::from(&*self.bytes);
        alter(Arc::make_mut(&mut bytes));
        Self { bytes }
    }

    /// Whether the session keeps its own timeouts beside `configured` ones: none of these is
    /// earlier.
    #[inline]
    pub(crate) fn is_within(&self, configured: &Timeouts) -> bool {
        self.is_remembered() || {
            let began = self.authenticated_at().unwrap_or(self.created_at());
            self.idle_timeout() <= configured.idle
                && self.absolute_at() <= began.saturating_add(configured.absolute)
        }
    }

    /// The data: keys and their encoded values.
    #[inline]
    pub fn data(&self) -> Data<'_> {
        Data::packed(&self.bytes[self.data_start()..])
    }

    /// When the session was created. A renewal keeps it.
    #[inline]
    pub fn created_at(&self) -> Timestamp {
        form::created_at(&self.bytes)
    }

    /// When activity was last recorded; the true last activity may be a touch interval later.
    #[inline]
    pub fn last_seen_at(&self) -> Timestamp {
        form::last_seen_at(&self.bytes)
    }

    /// When it is over whatever happens.
    #[inline]
    pub fn absolute_at(&self) -> Timestamp {
        form::absolute_at(&self.bytes)
    }

    /// How long it lives without activity.
    #[inline]
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(form::idle_seconds(&self.bytes)))
    }

    /// When it is over unless there is activity, or because of [`Record::absolute_at`].
    #[inline]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_after(self.last_seen_at())
    }

    /// The same if it was last seen at `seen`.
    #[inline]
    fn expires_after(&self, seen: Timestamp) -> Timestamp {
        // Without a `Duration`: several of these are asked for in each request.
        let idle = i64::from(form::idle_seconds(&self.bytes)) * 1000;
        Timestamp::from_millis(seen.as_millis().saturating_add(idle)).min(self.absolute_at())
    }

    /// The deadline where the layer's own timeouts are known too: the earlier one wins, unless the
    /// session was given its own by `remember`.
    #[inline]
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
    #[inline]
    pub fn is_remembered(&self) -> bool {
        self.has(REMEMBERED)
    }

    /// When its user signed in.
    #[inline]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.has(HAS_AUTHENTICATED).then(|| form::authenticated_at(&self.bytes))
    }

    /// Which layer it belongs to, where there are several.
    #[inline]
    pub fn realm(&self) -> Option<&str> {
        self.has(HAS_REALM).then(|| self.text(HAS_REALM))
    }

    /// The user bound to it at login.
    #[inline]
    pub fn user(&self) -> Option<&str> {
        self.has(HAS_USER).then(|| self.text(HAS_USER))
    }

    /// The user in whose list of sessions it is: its own, unless it was ended.
    ///
    /// An index by user holds what carries no mark, and no more: what a login under a cap looks at
    /// does not grow with what its user has ended.
    #[inline]
    pub fn listed_user(&self) -> Option<&str> {
        self.user().filter(|_| !self.has(ENDED | SUPERSEDED))
    }

    /// What the application shows a person to recognise the session by.
    pub fn label(&self) -> Option<&str> {
        self.has(HAS_LABEL).then(|| self.text(HAS_LABEL))
    }

    /// How often it was committed.
    #[inline]
    pub fn version(&self) -> u64 {
        form::version(&self.bytes)
    }

    /// The store's generation at creation or login; an ending of a later generation ends it.
    #[inline]
    pub fn generation(&self) -> u64 {
        form::generation(&self.bytes)
    }

    /// Whether it was ended or replaced, and what by.
    #[inline]
    pub fn mark(&self) -> Mark {
        if self.has(ENDED | SUPERSEDED) { self.stored_mark() } else { Mark::None }
    }

    /// The mark of a record that has one.
    fn stored_mark(&self) -> Mark {
        let start = self.text_place(ENDED).0;
        let at = || self.timestamp(start);
        if self.has(ENDED) {
            let by = EndedBy::from_code(self.bytes[start + 24]).unwrap_or(EndedBy::Application);
            let (until, grace) = (self.timestamp(start + 8), self.timestamp(start + 16));
            Mark::Ended { at: at(), until, grace, by }
        } else {
            let successor = SessionId::from_bytes(self.array(start + 16));
            Mark::Superseded { at: at(), until: self.timestamp(start + 8), successor }
        }
    }

    /// The bucket of the deadline index it is filed under; see [`IndexKey`].
    #[inline]
    pub(crate) fn bucket(&self) -> u32 {
        // Checked where bytes become a record.
        form::bucket(&self.bytes, self.filed_until()).unwrap_or_default()
    }

    /// The instant by which a record is filed, if it is filed anew.
    #[inline]
    fn filed_until(&self) -> Timestamp {
        match self.mark() {
            Mark::None => self.expires_at(),
            Mark::Ended { until, .. } | Mark::Superseded { until, .. } => until,
        }
    }

    /// Bytes of metadata and data together.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
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

    /// Where the optional field of `flag` begins and ends; one that is not there is empty.
    fn text_place(&self, flag: u8) -> (usize, usize) {
        let mut at = form::optional_fields(&self.bytes);
        for text in [HAS_REALM, HAS_USER, HAS_LABEL] {
            if !self.has(text) {
                continue;
            }
            // `checked_header` found the length to be within the bytes.
            let (len, rest) = varint::split(&self.bytes[at..]).unwrap_or_default();
            let start = self.bytes.len() - rest.len();
            let end = start + len as usize;
            if text == flag {
                return (start, end);
            }
            at = end;
        }
        (at, at)
    }

    fn text(&self, flag: u8) -> &str {
        let (start, end) = self.text_place(flag);
        // `checked_header` checked the encoding; a record is never built past it.
        std::str::from_utf8(&self.bytes[start..end]).unwrap_or_default()
    }

    #[inline]
    fn data_start(&self) -> usize {
        if !self.has(HAS_REALM | HAS_USER | HAS_LABEL | ENDED | SUPERSEDED) {
            return form::optional_fields(&self.bytes);
        }
        self.text_place(ENDED).1 + mark_bytes(self.bytes[1])
    }

    fn is_plausible(&self) -> bool {
        // Instants are in no certain order: a clock may be stepped back between two of them.
        if self.has(ENDED) {
            let (_, mark) = self.text_place(ENDED);
            if EndedBy::from_code(self.bytes[mark + 24]).is_none() {
                return false;
            }
        }
        form::bucket(&self.bytes, self.filed_until()).is_some()
            && (!form::is_wide(&self.bytes) || self.header().compact().is_none())
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

fn mark_bytes(flags: u8) -> usize {
    match flags & (ENDED | SUPERSEDED) {
        ENDED => 25,
        SUPERSEDED => 48,
        _ => 0,
    }
}

/// Checks a header, and says where the data begins.
fn checked_header(bytes: &[u8]) -> Option<usize> {
    if u32::try_from(bytes.len()).is_err() || bytes.len() < form::fixed_bytes(*bytes.first()?)? {
        return None;
    }
    let flags = bytes[1];
    if flags & !KNOWN_FLAGS != 0 || flags & (ENDED | SUPERSEDED) == ENDED | SUPERSEDED {
        return None;
    }
    let mut at = form::optional_fields(bytes);
    for (flag, most) in
        [(HAS_REALM, MAX_REALM_BYTES), (HAS_USER, MAX_USER_BYTES), (HAS_LABEL, MAX_LABEL_BYTES)]
    {
        if flags & flag != 0 {
            at = text_end(bytes, at, most)?;
        }
    }
    at += mark_bytes(flags);
    // A mark never carries data: what ended lost it.
    let whole = if mark_bytes(flags) > 0 { at == bytes.len() } else { at <= bytes.len() };
    whole.then_some(at)
}

/// Where the text at `at` ends; `None` if it is longer than any that is written.
fn text_end(bytes: &[u8], at: usize, most: usize) -> Option<usize> {
    let (len, rest) = varint::split(bytes.get(at..)?)?;
    let text = rest.get(..usize::try_from(len).ok().filter(|len| *len <= most)?)?;
    std::str::from_utf8(text).ok()?;
    Some(bytes.len() - rest.len() + text.len())
}
