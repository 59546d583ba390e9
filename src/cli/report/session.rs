//! A session as a row, and as it is written by every machine format.

use serde::Serialize;

use super::listing::{Row, View};
use super::size;
use crate::cli::time::{Instant, relative};
use crate::store::Summary;

/// The fields of a session, in their stable order.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) id: String,
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
            id: session.id.to_string(),
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

    fn id(&self) -> &str {
        &self.id
    }

    fn cells(&self, view: &View) -> Vec<String> {
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or("-").to_owned();
        let time = |at: Instant| view.time(at);
        let end = self.ended_at.unwrap_or(self.expires_at);
        vec![
            self.id[..view.id_digits].to_owned(),
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
