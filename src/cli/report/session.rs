//! A session as a row, and as it is written by every machine format.

use serde::Serialize;

use super::listing::{Row, View};
use super::{json, size};
use crate::cli::exit::Outcome;
use crate::cli::time::{Instant, relative};
use crate::id::SessionId;
use crate::store::Summary;

/// An ID as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdText(pub(crate) SessionId);

impl Serialize for IdText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl std::fmt::Display for IdText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The fields of a session, in their stable order.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) id: IdText,
    pub(crate) user: Option<Box<str>>,
    pub(crate) label: Option<Box<str>>,
    pub(crate) realm: Option<Box<str>>,
    pub(crate) state: &'static str,
    pub(crate) created_at: Instant,
    pub(crate) authenticated_at: Option<Instant>,
    pub(crate) last_seen_at: Instant,
    pub(crate) expires_at: Instant,
    pub(crate) size_bytes: usize,
    pub(crate) ended_at: Option<Instant>,
    pub(crate) ended_by: Option<&'static str>,
}

impl From<Summary> for SessionRow {
    fn from(session: Summary) -> Self {
        Self {
            id: IdText(session.id),
            user: session.user,
            label: session.label,
            realm: session.realm,
            state: session.state.as_str(),
            created_at: Instant(session.created_at),
            authenticated_at: session.authenticated_at.map(Instant),
            last_seen_at: Instant(session.last_seen_at),
            expires_at: Instant(session.expires_at),
            size_bytes: session.size_bytes,
            ended_at: session.ended_at.map(Instant),
            ended_by: session.ended_by.map(crate::record::EndedBy::as_str),
        }
    }
}

impl Row for SessionRow {
    const FIELDS: &'static [&'static str] = &[
        "id",
        "user",
        "label",
        "realm",
        "state",
        "created_at",
        "authenticated_at",
        "last_seen_at",
        "expires_at",
        "size_bytes",
        "ended_at",
        "ended_by",
    ];
    const HEADINGS: &'static [&'static str] =
        &["ID", "USER", "STATE", "CREATED", "LAST SEEN", "ENDS", "SIZE", "REALM", "LABEL"];
    const CUT: &'static [usize] = &[1, 7, 8];
    const LEFT_OUT: &'static [usize] = &[8, 7, 6, 3, 4];

    fn id(&self) -> String {
        self.id.0.to_string()
    }

    fn put_id(&self, out: &mut Vec<u8>) {
        json::hex(out, &self.id.0);
    }

    fn put_json(&self, out: &mut Vec<u8>) -> Outcome<()> {
        let mut last = None;
        out.extend_from_slice(b"{\"id\":\"");
        json::hex(out, &self.id.0);
        out.extend_from_slice(b"\",\"user\":");
        json::maybe_text(out, self.user.as_deref())?;
        out.extend_from_slice(b",\"label\":");
        json::maybe_text(out, self.label.as_deref())?;
        out.extend_from_slice(b",\"realm\":");
        json::maybe_text(out, self.realm.as_deref())?;
        out.extend_from_slice(b",\"state\":");
        json::word(out, self.state);
        out.extend_from_slice(b",\"created_at\":");
        json::instant(out, self.created_at, &mut last);
        out.extend_from_slice(b",\"authenticated_at\":");
        json::maybe_instant(out, self.authenticated_at, &mut last);
        out.extend_from_slice(b",\"last_seen_at\":");
        json::instant(out, self.last_seen_at, &mut last);
        out.extend_from_slice(b",\"expires_at\":");
        json::instant(out, self.expires_at, &mut last);
        out.extend_from_slice(b",\"size_bytes\":");
        json::number(out, self.size_bytes);
        out.extend_from_slice(b",\"ended_at\":");
        json::maybe_instant(out, self.ended_at, &mut last);
        out.extend_from_slice(b",\"ended_by\":");
        json::maybe_word(out, self.ended_by);
        out.push(b'}');
        Ok(())
    }

    fn cells(&self, view: &View) -> Vec<String> {
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or("-").to_owned();
        let time = |at: Instant| view.time(at);
        let end = self.ended_at.unwrap_or(self.expires_at);
        vec![
            format!("{:.*}", view.id_digits, self.id.0),
            text(&self.user),
            self.state.to_owned(),
            time(self.created_at),
            time(self.last_seen_at),
            time(end),
            size(self.size_bytes as u64),
            text(&self.realm),
            text(&self.label),
        ]
    }
}

impl View {
    pub(crate) fn time(&self, at: Instant) -> String {
        match self.relative_to {
            Some(now) => relative(at.0, now),
            None => at.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::to_json;
    use crate::expiry::{Timeouts, Timestamp};
    use crate::record::{Data, Endings, Header, Record};

    #[test]
    fn a_row_is_written_as_it_serializes() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let mut header = Header::new(at, &Timeouts::default());
        for (user, label) in [(None, None), (Some("alice"), Some("\u{1b}[31m \"x\" \u{202e}ß"))] {
            header.user = user.map(Into::into);
            header.label = label.map(Into::into);
            header.authenticated_at = user.map(|_| at);
            let record = Record::new(&header, Data::EMPTY).unwrap();
            let id = SessionId::from_bytes([0xa7; 32]);
            let row: SessionRow = Summary::new(id, &record, &Endings::default(), at).into();
            let mut out = Vec::new();
            row.put_json(&mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), to_json(&row).unwrap());
        }
    }
}
