//! The fixed fields of the two forms of a header: see [the layout](super).

use super::{HAS_AUTHENTICATED, Header, IndexKey, Mark, Record};
use crate::expiry::Timestamp;

pub(super) const COMPACT: u8 = 2;
pub(super) const WIDE: u8 = 3;

const COMPACT_BYTES: usize = 29;
const WIDE_BYTES: usize = 50;
/// No fewer than the fixed fields of any form take, with the instant of a login.
pub(super) const MOST_BYTES: usize = WIDE_BYTES + 8;

/// The bytes of the fixed fields of a form.
pub(super) fn fixed_bytes(form: u8) -> Option<usize> {
    match form {
        COMPACT => Some(COMPACT_BYTES),
        WIDE => Some(WIDE_BYTES),
        _ => None,
    }
}

#[inline]
pub(super) fn is_wide(bytes: &[u8]) -> bool {
    bytes[0] == WIDE
}

/// Where the texts begin.
#[inline]
pub(super) fn optional_fields(bytes: &[u8]) -> usize {
    let is_authenticated = bytes[1] & HAS_AUTHENTICATED != 0;
    match (is_wide(bytes), is_authenticated) {
        (false, false) => COMPACT_BYTES,
        (false, true) => COMPACT_BYTES + 5,
        (true, false) => WIDE_BYTES,
        (true, true) => WIDE_BYTES + 8,
    }
}

/// `N` bytes from `start` as a number, read with what stands before them: one load, where `N` are
/// several. No field ends before the eighth byte.
#[inline]
fn number<const N: usize>(bytes: &[u8], start: usize) -> u64 {
    let end = start + N;
    let mut wide = [0; 8];
    wide.copy_from_slice(&bytes[end - 8..end]);
    u64::from_le_bytes(wide) >> (64 - 8 * N)
}

#[inline]
fn short<const N: usize>(bytes: &[u8], start: usize) -> u32 {
    let end = start + N;
    let mut wide = [0; 4];
    wide.copy_from_slice(&bytes[end - 4..end]);
    u32::from_le_bytes(wide) >> (32 - 8 * N)
}

#[inline]
fn instant(bytes: &[u8], start: usize) -> Timestamp {
    Timestamp::from_millis(number::<8>(bytes, start).cast_signed())
}

/// An instant of the compact form.
#[inline]
fn since_created(bytes: &[u8], start: usize) -> Timestamp {
    // 48 bits and 40: far below the limit.
    Timestamp::from_millis((number::<6>(bytes, 2) + number::<5>(bytes, start)).cast_signed())
}

#[inline]
pub(super) fn created_at(bytes: &[u8]) -> Timestamp {
    if is_wide(bytes) {
        return instant(bytes, 2);
    }
    Timestamp::from_millis(number::<6>(bytes, 2).cast_signed())
}

#[inline]
pub(super) fn last_seen_at(bytes: &[u8]) -> Timestamp {
    if is_wide(bytes) { instant(bytes, 10) } else { since_created(bytes, 8) }
}

#[inline]
pub(super) fn absolute_at(bytes: &[u8]) -> Timestamp {
    if is_wide(bytes) { instant(bytes, 18) } else { since_created(bytes, 13) }
}

#[inline]
pub(super) fn idle_seconds(bytes: &[u8]) -> u32 {
    if is_wide(bytes) { short::<4>(bytes, 26) } else { short::<3>(bytes, 18) }
}

/// The bucket of a record that would be filed by `until`; `None` if there is no such bucket.
#[inline]
pub(super) fn bucket(bytes: &[u8], until: Timestamp) -> Option<u32> {
    if is_wide(bytes) {
        return Some(short::<4>(bytes, 30));
    }
    let less = i16::from_le_bytes([bytes[21], bytes[22]]);
    IndexKey::bucket_of(until).checked_add_signed(i32::from(less))
}

#[inline]
pub(super) fn version(bytes: &[u8]) -> u64 {
    if is_wide(bytes) { number::<8>(bytes, 34) } else { number::<3>(bytes, 23) }
}

#[inline]
pub(super) fn generation(bytes: &[u8]) -> u64 {
    if is_wide(bytes) { number::<8>(bytes, 42) } else { number::<3>(bytes, 26) }
}

/// Of a record that has one.
#[inline]
pub(super) fn authenticated_at(bytes: &[u8]) -> Timestamp {
    if is_wide(bytes) { instant(bytes, WIDE_BYTES) } else { since_created(bytes, COMPACT_BYTES) }
}

/// What another instant of the last activity changes.
#[derive(Clone, Copy)]
pub(super) struct Touched {
    seen: [u8; 5],
    less: [u8; 2],
}

/// What a commit changes of the fixed fields.
#[derive(Clone, Copy)]
pub(super) struct Committed {
    touched: Option<Touched>,
    version: [u8; 3],
}

/// `record` last seen at `at`; `None` if that takes another form.
pub(super) fn touched(record: &Record, at: Timestamp) -> Option<Touched> {
    if is_wide(&record.bytes) || record.mark() != Mark::None {
        return None;
    }
    let seen = bits::<5>(at.as_millis().checked_sub(record.created_at().as_millis()))?;
    let less = bucket_less(record.bucket(), record.expires_after(at))?;
    Some(Touched { seen, less })
}

/// `record` committed once more, at `at`; `None`, too, if it was to be filed anew.
pub(super) fn committed(record: &Record, at: Timestamp) -> Option<Committed> {
    let bytes = &record.bytes;
    if is_wide(bytes) {
        return None;
    }
    let version = bits::<3>(i64::try_from(record.version() + 1).ok())?;
    let touched = if at <= record.last_seen_at() { None } else { Some(touched(record, at)?) };
    let less = touched.map_or([bytes[21], bytes[22]], |touched| touched.less);
    (i16::from_le_bytes(less) <= 0).then_some(Committed { touched, version })
}

impl Touched {
    /// Writes it into the record's bytes, or a copy of them.
    pub(super) fn write_to(self, bytes: &mut [u8]) {
        bytes[8..13].copy_from_slice(&self.seen);
        bytes[21..23].copy_from_slice(&self.less);
    }
}

impl Committed {
    /// Writes it into the record's bytes, or a copy of them.
    pub(super) fn write_to(self, bytes: &mut [u8]) {
        if let Some(touched) = self.touched {
            touched.write_to(bytes);
        }
        bytes[23..26].copy_from_slice(&self.version);
    }
}

fn bucket_less(bucket: u32, until: Timestamp) -> Option<[u8; 2]> {
    let less = i64::from(bucket) - i64::from(IndexKey::bucket_of(until));
    i16::try_from(less).ok().map(i16::to_le_bytes)
}

/// The low `N` bytes of a number that has no others.
fn bits<const N: usize>(value: Option<i64>) -> Option<[u8; N]> {
    let value = u64::try_from(value?).ok()?;
    if value >> (8 * N) != 0 {
        return None;
    }
    value.to_le_bytes().first_chunk().copied()
}

impl Header {
    /// The fields of the compact form, those that are always there and the instant of the login,
    /// if they fit it.
    pub(super) fn compact(&self) -> Option<([u8; COMPACT_BYTES - 2], Option<[u8; 5]>)> {
        let created = self.created_at.as_millis();
        let since = |at: Timestamp| bits::<5>(at.as_millis().checked_sub(created));
        let small = |value: u64| bits::<3>(i64::try_from(value).ok());
        let mut out = [0; COMPACT_BYTES - 2];
        let mut rest = &mut out[..];
        let mut put = |field: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        };
        put(&bits::<6>(Some(created))?);
        put(&since(self.last_seen_at)?);
        put(&since(self.absolute_at)?);
        put(&small(u64::from(self.idle_seconds()))?);
        put(&bucket_less(self.bucket, self.filed_until())?);
        put(&small(self.version)?);
        put(&small(self.generation)?);
        let authenticated = match self.authenticated_at {
            Some(at) => Some(since(at)?),
            None => None,
        };
        Some((out, authenticated))
    }
}
