//! Rows and endings as the server had them at one moment.

use ::redis::{Cmd, Value};
use tokio::time::Instant;

use super::Shared;
use super::layout::{self, Partition, Row, Stamp, State, UserHash};
use super::link::Kind;
use super::plan::Plan;
use super::scripts;
use crate::error::{Error, Result};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::{Endings, Record};
use crate::store::Rows;
use crate::store::stored::StoredEnding;
use std::time::Duration;

/// What was read of one partition at one moment.
pub(super) struct View {
    pub(super) sealed_state: Vec<u8>,
    pub(super) state: State,
    rows: Vec<(SessionId, Result<Option<Row>>)>,
    endings: Vec<(UserHash, Option<StoredEnding>)>,
    sessions: Option<Sessions>,
    keep_ended: Duration,
}

/// What a user has in the index by user.
struct Sessions {
    user: UserHash,
    /// Those that were read.
    ids: Vec<SessionId>,
    /// How many there are in all.
    count: u64,
}

/// A user whose ending is read, and whose sessions may be.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) hash: UserHash,
    /// At most so many of a partition's.
    pub(super) sessions: usize,
}

impl View {
    /// What is expected to be found: a row, or none.
    pub(super) fn guess(
        shared: &Shared,
        sealed_state: Vec<u8>,
        rows: Vec<(SessionId, Option<Row>)>,
    ) -> Result<Self> {
        Ok(Self {
            state: State::open(&sealed_state)?,
            sealed_state,
            rows: rows.into_iter().map(|(id, row)| (id, Ok(row))).collect(),
            endings: Vec::new(),
            sessions: None,
            keep_ended: shared.config.keep_ended,
        })
    }

    /// Reads rows, and what is wanted of a user.
    pub(super) async fn read(
        shared: &Shared,
        partition: Partition,
        ids: &[SessionId],
        wanted: Option<Wanted>,
        until: Instant,
    ) -> Result<Self> {
        let keys = &shared.keys;
        let fixed = [keys.state(partition), keys.endings(partition), keys.users(partition)];
        let rows: Vec<String> = ids.iter().map(|id| keys.row(id)).collect();
        let prefix = keys.rows(partition);
        let reply = shared
            .link
            .run(&scripts::VIEWING, Kind::Read, until, |command: &mut Cmd| {
                command.arg(3 + rows.len()).arg(&fixed).arg(&rows).arg(&prefix);
                match &wanted {
                    Some(wanted) => command.arg(&wanted.hash[..]).arg(wanted.sessions),
                    None => command.arg("").arg(0),
                };
            })
            .await?;
        let mut parts = array(reply.value)?.into_iter();
        let sealed_state = bytes(parts.next())?.unwrap_or_default();
        let mut view = Self::guess(shared, sealed_state, Vec::new())?;
        shared.remember_state(partition, &view.sealed_state);
        let mut found = array(parts.next().unwrap_or(Value::Nil))?.into_iter();
        for id in ids {
            view.add(*id, bytes(found.next())?, bytes(found.next())?.as_deref())?;
        }
        let of_user = bytes(parts.next())?;
        if let Some(wanted) = wanted {
            view.add_ending(wanted.hash, of_user.as_deref())?;
            let mut listed = Vec::new();
            let mut found = array(parts.next().unwrap_or(Value::Nil))?.into_iter();
            while let (Some(id), row) = (bytes(found.next())?, bytes(found.next())?) {
                let Ok(id) = <[u8; SessionId::LEN]>::try_from(&id[..]) else { continue };
                let id = SessionId::from_bytes(id);
                listed.push(id);
                if !view.rows.iter().any(|(known, _)| *known == id) {
                    view.add(id, row, None)?;
                }
            }
            if wanted.sessions > 0 {
                let count = number(parts.next().as_ref())?;
                view.sessions = Some(Sessions { user: wanted.hash, ids: listed, count });
            }
        }
        Ok(view)
    }

    fn add(&mut self, id: SessionId, row: Option<Vec<u8>>, ending: Option<&[u8]>) -> Result<()> {
        let row = row.map(|bytes| Row::open(&id, &bytes)).transpose();
        if let Ok(Some(Row { record, .. })) = &row
            && record.user().is_some()
        {
            self.add_ending(layout::hash_of(record.user()), ending)?;
        }
        self.rows.push((id, row));
        Ok(())
    }

    fn add_ending(&mut self, user: UserHash, sealed: Option<&[u8]>) -> Result<()> {
        if !self.endings.iter().any(|(known, _)| *known == user) {
            let ending = sealed.map(|sealed| StoredEnding::open(&user, sealed)).transpose()?;
            self.endings.push((user, ending));
        }
        Ok(())
    }

    /// The row of `id`.
    pub(super) fn row(&self, id: &SessionId) -> Result<Option<&Row>> {
        match self.rows.iter().find(|(known, _)| known == id) {
            Some((_, Ok(row))) => Ok(row.as_ref()),
            Some((_, Err(error))) => Err(error.clone()),
            None => Err(Error::unavailable("a row was not read")),
        }
    }

    /// The ending of a user's sessions.
    pub(super) fn ending(&self, user: &UserHash) -> Option<&StoredEnding> {
        self.endings.iter().find(|(known, _)| known == user)?.1.as_ref()
    }

    /// The endings that concern `record`.
    pub(super) fn endings_of(&self, record: &Record) -> Endings {
        let of_user = || self.ending(&layout::hash_of(record.user())).map(|stored| stored.ending);
        let user = record.user().filter(|_| self.state.user_endings > 0).and_then(|_| of_user());
        Endings { everyone: self.state.everyone, user }
    }

    /// IDs of the records that were read of the user whose sessions were wanted.
    pub(super) fn sessions(&self) -> &[SessionId] {
        self.sessions.as_ref().map_or(&[], |sessions| &sessions.ids)
    }

    /// Counts a record of another partition among the user's sessions: for a decision only.
    pub(super) fn count(&mut self, id: SessionId, record: Record) {
        if let Some(sessions) = &mut self.sessions {
            sessions.ids.push(id);
        }
        self.rows.push((id, Ok(Some(Row { stamp: Stamp::default(), record }))));
    }

    /// Whether everything is known that concerns the record of `id`.
    pub(super) fn is_enough_for(&self, id: &SessionId) -> bool {
        match self.row(id) {
            Ok(Some(row)) => row.record.user().is_none() || self.state.user_endings == 0,
            _ => true,
        }
    }

    /// The row of `id`, if nothing else was looked at.
    pub(super) fn only_row(&self, id: &SessionId) -> Option<&Row> {
        match &self.rows[..] {
            [(known, Ok(Some(row)))] if known == id && self.sessions.is_none() => Some(row),
            _ => None,
        }
    }

    /// A plan that is carried out only if all of this still stands.
    pub(super) fn plan<'a>(
        &self,
        shared: &'a Shared,
        partition: Partition,
        at: Timestamp,
    ) -> Result<Plan<'a>> {
        let mut plan = Plan::new(shared, partition, at)?;
        plan.expect_state(&self.sealed_state);
        for (id, row) in &self.rows {
            if let Ok(row) = row {
                plan.expect_row(id, row.as_ref().map(|row| row.stamp));
            }
        }
        if let Some(Sessions { user, count, .. }) = &self.sessions {
            plan.expect_sessions(user, *count);
        }
        Ok(plan)
    }
}

impl Rows for View {
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>> {
        Ok(self.row(id)?.map(|row| row.record.clone()))
    }

    fn endings(&mut self, user: Option<&str>) -> Result<Endings> {
        let user =
            user.filter(|_| self.state.user_endings > 0).map(|user| layout::hash_of(Some(user)));
        let user = user.and_then(|user| self.ending(&user)).map(|stored| stored.ending);
        Ok(Endings { everyone: self.state.everyone, user })
    }

    fn generation(&mut self) -> Result<u64> {
        Ok(self.state.generation)
    }

    /// Bounded where they were read.
    fn sessions_of(&mut self, user: &str, _: usize) -> Result<Vec<SessionId>> {
        match &self.sessions {
            Some(known) if known.user == layout::hash_of(Some(user)) => Ok(known.ids.clone()),
            _ => Err(Error::unavailable("the sessions of a user were not read")),
        }
    }

    fn keep_ended(&self) -> Duration {
        self.keep_ended
    }
}

pub(super) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(not_understood()),
    }
}

pub(super) fn bytes(value: Option<Value>) -> Result<Option<Vec<u8>>> {
    match value {
        Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
        Some(Value::SimpleString(text)) => Ok(Some(text.into_bytes())),
        Some(Value::Nil | Value::Boolean(false)) | None => Ok(None),
        Some(_) => Err(not_understood()),
    }
}

pub(super) fn number(value: Option<&Value>) -> Result<u64> {
    match value {
        Some(Value::Int(number)) => Ok(u64::try_from(*number).unwrap_or(0)),
        _ => Err(not_understood()),
    }
}

fn not_understood() -> Error {
    Error::unavailable("the server's answer cannot be understood")
}
