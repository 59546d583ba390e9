//! Finding a cookie in the `Cookie` headers of a request.

use memchr::memchr;

/// How many bytes of `Cookie` headers are looked at, all headers together.
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How many cookies of the wanted name a request may carry.
pub(crate) const MAX_CANDIDATES: usize = 4;

/// The values of all cookies of the wanted name.
///
/// A browser sends several if they differ in path or domain, and one of them may be somebody
/// else's. Their order says nothing about whose is whose, so all are returned, and the signature
/// decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidates<'a> {
    /// Each different value once. None if the visitor has no such cookie.
    Found(Found<'a>),
    /// More than [`MAX_CANDIDATES`]. None is to be used.
    TooMany,
    /// More than [`MAX_HEADER_BYTES`]. None is to be used.
    TooLarge,
}

/// Up to [`MAX_CANDIDATES`] different values; derefs to a slice of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    values: [&'a [u8]; MAX_CANDIDATES],
    len: usize,
}

impl<'a> Candidates<'a> {
    /// The value of a header that holds nothing else. Empty is as good as absent.
    pub(crate) fn alone(value: &'a [u8]) -> Self {
        let mut found = Found::default();
        if !value.is_empty() {
            found.add(value);
        }
        Self::Found(found)
    }
}

impl<'a> Found<'a> {
    #[inline]
    fn add(&mut self, value: &'a [u8]) {
        if !self.contains(&value) {
            self.values[self.len] = value;
            self.len += 1;
        }
    }
}

impl<'a> std::ops::Deref for Found<'a> {
    type Target = [&'a [u8]];

    fn deref(&self) -> &Self::Target {
        &self.values[..self.len]
    }
}

/// The values of the cookies named exactly `name` in these `Cookie` header values.
///
/// Takes time linear in the headers' length up to the bound, and does not allocate.
#[inline]
pub(crate) fn candidates<'a>(
    headers: impl Iterator<Item = &'a [u8]>,
    name: &str,
) -> Candidates<'a> {
    let mut found = Found::default();
    let mut seen = 0;
    let mut bytes = 0_usize;
    for header in headers {
        bytes = bytes.saturating_add(header.len());
        if bytes > MAX_HEADER_BYTES {
            return Candidates::TooLarge;
        }
        for value in values(header, name.as_bytes()) {
            seen += 1;
            if seen <= MAX_CANDIDATES {
                found.add(value);
            }
        }
    }
    if seen > MAX_CANDIDATES { Candidates::TooMany } else { Candidates::Found(found) }
}

/// What nearly every request has: no such cookie, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sole<'a> {
    Nothing,
    Value(&'a [u8]),
    /// It takes [`candidates`] to tell.
    Unclear,
}

/// The same as [`candidates`], without room for more than one.
#[inline]
pub(crate) fn sole<'a>(headers: impl Iterator<Item = &'a [u8]>, name: &str) -> Sole<'a> {
    let mut sole = Sole::Nothing;
    let mut bytes = 0_usize;
    for header in headers {
        bytes = bytes.saturating_add(header.len());
        if bytes > MAX_HEADER_BYTES {
            return Sole::Unclear;
        }
        for value in values(header, name.as_bytes()) {
            if sole != Sole::Nothing {
                return Sole::Unclear;
            }
            sole = Sole::Value(value);
        }
    }
    sole
}

/// A name has no `=` in it, so that what follows it is the first one, if the pair is of this name.
/// A pair without `=` is a value without a name.
#[inline]
fn values<'a>(header: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    pairs(header).filter_map(move |pair| {
        let rest = trim_start(trim_start(pair).strip_prefix(name)?);
        Some(trim(rest.strip_prefix(b"=")?))
    })
}

/// What stands between the semicolons.
#[inline]
fn pairs(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let header = rest?;
        let end = memchr(b';', header);
        rest = end.map(|end| &header[end + 1..]);
        Some(end.map_or(header, |end| &header[..end]))
    })
}

/// Without the spaces and tabs around it: no other byte counts as white space in a header.
#[inline]
fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[inline]
fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}
