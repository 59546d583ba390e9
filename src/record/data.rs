//! The data part of a record: entries in order of key, read and merged without decoding values.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::varint;
use crate::error::{Error, Kind, Result};

/// Longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 256;
/// Most bytes that the lengths of a key and a value take.
const ENTRY_BYTES: usize = 2 * varint::MOST_BYTES;

/// The keys and encoded values of a session, in order of key.
///
/// A view of packed bytes. Each value is one MessagePack value. `Debug` shows keys only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    /// No data.
    pub const EMPTY: Data<'static> = Data(&[]);

    pub(super) fn validate(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut previous: Option<&[u8]> = None;
        while !rest.is_empty() {
            let (key, _, after) = split_entry(rest)?;
            let in_order = previous.is_none_or(|previous| previous < key);
            if !in_order || key.len() > MAX_KEY_BYTES || std::str::from_utf8(key).is_err() {
                return None;
            }
            previous = Some(key);
            rest = after;
        }
        Some(Self(bytes))
    }

    /// Bytes that [`Changes::apply`] packed, or that [`Data::validate`] accepted before.
    pub(crate) fn packed(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The packed bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The encoded value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        let key = key.as_bytes();
        let mut rest = self.0;
        while let Some((found, value, after)) = split_entry(rest) {
            if found == key {
                return Some(value);
            }
            rest = after;
        }
        None
    }

    /// The place of the entry of `key`, or that between two entries where it would have to be.
    fn place(&self, key: &[u8]) -> Range<usize> {
        let mut rest = self.0;
        let place = |rest: &[u8]| self.0.len() - rest.len();
        while let Some((found, _, after)) = split_entry(rest) {
            match found.cmp(key) {
                Ordering::Less => rest = after,
                Ordering::Equal => return place(rest)..place(after),
                Ordering::Greater => break,
            }
        }
        place(rest)..place(rest)
    }

    /// Keys and encoded values, in order of key.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (key, value, after) = split_entry(rest)?;
            rest = after;
            Some((std::str::from_utf8(key).ok()?, value))
        })
    }
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

/// Key, value and what follows; `None` at the end or where lengths do not add up.
fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_len, rest) = varint::split(bytes)?;
    let (key, rest) = rest.split_at_checked(usize::try_from(key_len).ok()?)?;
    let (value_len, rest) = varint::split(rest)?;
    let (value, rest) = rest.split_at_checked(usize::try_from(value_len).ok()?)?;
    Some((key, value, rest))
}

/// Changes to the data of a session: keys set and removed, perhaps all others cleared.
///
/// `Debug` shows keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes {
    clear: bool,
    /// In order of key, `None` if there are none. Shared by copies, of which every commit is one.
    entries: Option<Arc<SmallVec<[Entry; 1]>>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    /// The value, then the key: whoever encodes a value nearly always leaves room for it.
    bytes: Vec<u8>,
    key_start: usize,
    /// There is no value.
    removes: bool,
}

impl Entry {
    /// `None` removes.
    fn new(key: &str, value: Option<Vec<u8>>) -> Self {
        let removes = value.is_none();
        let mut bytes = value.unwrap_or_default();
        let key_start = bytes.len();
        bytes.extend_from_slice(key.as_bytes());
        Self { bytes, key_start, removes }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[self.key_start..]
    }

    fn key_text(&self) -> &str {
        // Put there as text.
        std::str::from_utf8(self.key()).unwrap_or_default()
    }

    fn value(&self) -> Option<&[u8]> {
        (!self.removes).then(|| &self.bytes[..self.key_start])
    }

    /// Appends it as it is stored, unless it removes.
    fn push_to(&self, out: &mut Vec<u8>) {
        let Some(value) = self.value() else { return };
        // Keys and values are bounded when they enter `Changes`.
        varint::push(out, u32::try_from(self.key().len()).unwrap_or(u32::MAX));
        out.extend_from_slice(self.key());
        varint::push(out, u32::try_from(value.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(value);
    }
}

impl Changes {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to an encoded value.
    ///
    /// Fails with `is_too_large()` if the key is longer than 256 bytes or the value than 4 GiB.
    pub fn set(&mut self, key: &str, value: Vec<u8>) -> Result<()> {
        if key.len() > MAX_KEY_BYTES {
            let message = format!("a session key has at most {MAX_KEY_BYTES} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        if u32::try_from(value.len()).is_err() {
            return Err(Error::new(Kind::TooLarge, "a session value has at most 4 GiB"));
        }
        #[cfg(fastsession_leaks)]
        crate::leaks::payload(&value);
        self.put(key, Some(value));
        Ok(())
    }

    fn put(&mut self, key: &str, value: Option<Vec<u8>>) {
        let (place, entry) = (self.place(key), Entry::new(key, value));
        let Some(entries) = &mut self.entries else {
            // Most requests change one key.
            self.entries = Some(Arc::new([entry].into()));
            return;
        };
        let entries = Arc::make_mut(entries);
        match place {
            Ok(place) => entries[place] = entry,
            Err(place) => entries.insert(place, entry),
        }
    }

    fn entries(&self) -> &[Entry] {
        self.entries.as_deref().map_or(&[], SmallVec::as_slice)
    }

    /// Where `key` is, or where it would have to be.
    fn place(&self, key: &str) -> std::result::Result<usize, usize> {
        self.entries().binary_search_by(|entry| entry.key().cmp(key.as_bytes()))
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) {
        if self.clear {
            self.forget(key);
        } else if key.len() <= MAX_KEY_BYTES {
            self.put(key, None);
        }
    }

    /// Removes every key, those set before included.
    pub fn clear(&mut self) {
        self.clear = true;
        self.entries = None;
    }

    /// Whether every key not set here is removed.
    pub fn is_clear(&self) -> bool {
        self.clear
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        !self.clear && self.entries.is_none()
    }

    /// What these changes say of `key`: `None` nothing, `Some(None)` removed.
    pub fn get(&self, key: &str) -> Option<Option<&[u8]>> {
        match self.place(key) {
            Ok(place) => Some(self.entries()[place].value()),
            Err(_) => self.clear.then_some(None),
        }
    }

    /// Keys set (`Some`) or removed (`None`), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.entries().iter().map(|entry| (entry.key_text(), entry.value()))
    }

    /// Forgets what these changes say of `key`.
    pub(crate) fn forget(&mut self, key: &str) {
        let (Ok(place), Some(entries)) = (self.place(key), &mut self.entries) else { return };
        Arc::make_mut(entries).remove(place);
        if entries.is_empty() {
            self.entries = None;
        }
    }

    /// What is left of these changes once `committed` was: an earlier state of them.
    pub(crate) fn settle(&mut self, committed: &Self) {
        if self.clear && !committed.clear {
            return;
        }
        self.clear = false;
        for (key, value) in committed.iter() {
            match self.place(key) {
                Ok(place) if self.entries()[place].value() == value => self.forget(key),
                // Removed meanwhile, when it was not known to be stored.
                Err(_) if value.is_some() => self.put(key, None),
                _ => {}
            }
        }
    }

    /// The value that takes the place of one as long, and where in `before`, if that is all that
    /// is changed.
    pub(crate) fn in_place(&self, before: Data<'_>) -> Option<(Range<usize>, &[u8])> {
        let [change] = self.entries() else { return None };
        let (value, place) = (change.value()?, before.place(change.key()));
        let (_, old, _) = split_entry(&before.0[place.clone()])?;
        let is_as_long = old.len() == value.len() && !self.clear;
        is_as_long.then(|| (place.end - value.len()..place.end, value))
    }

    /// The packed data after these changes to `before`.
    pub fn apply(&self, before: Data<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.most_bytes(before));
        self.apply_to(before, &mut out);
        out
    }

    /// No fewer bytes than these changes make of `before`.
    pub(super) fn most_bytes(&self, before: Data<'_>) -> usize {
        let added = |entry: &Entry| ENTRY_BYTES + entry.bytes.len();
        before.as_bytes().len() + self.entries().iter().map(added).sum::<usize>()
    }

    /// Appends the packed data after these changes to `before`.
    pub(super) fn apply_to(&self, before: Data<'_>, out: &mut Vec<u8>) {
        let before = if self.clear { Data::EMPTY } else { before };
        if let [change] = self.entries() {
            // Nearly always there is one, and what stands before and after it is copied at once.
            let place = before.place(change.key());
            out.extend_from_slice(&before.0[..place.start]);
            change.push_to(out);
            out.extend_from_slice(&before.0[place.end..]);
            return;
        }
        let mut changed = self.entries();
        let mut rest = before.as_bytes();
        while let Some((key, _, after)) = split_entry(rest) {
            let (stored, mut is_changed) = (&rest[..rest.len() - after.len()], false);
            while let Some((new, others)) = changed.split_first()
                && let order = new.key().cmp(key)
                && order.is_le()
            {
                new.push_to(out);
                is_changed = order.is_eq();
                changed = others;
            }
            if !is_changed {
                out.extend_from_slice(stored);
            }
            rest = after;
        }
        for new in changed {
            new.push_to(out);
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("clear", &self.clear)
            .field("keys", &self.iter().map(|(key, _)| key).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
