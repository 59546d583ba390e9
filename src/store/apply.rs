//! What a commit does, decided once for every store.
//!
//! An engine lends its rows through [`Rows`], inside its own transaction or lock, and writes down
//! what [`apply`] decided. A session's rules so stand in one pure function that is tested by
//! itself, and a new engine has only storage to get right. One shortcut of what it decides, for a
//! store in memory, is held to it ([`change_in_place`]).

use super::{Access, Commit, Draft, Login, Op, Outcome, SessionCap};
use crate::error::{Error, Kind, Result};
use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::record::{Absence, Changes, Data, EndedBy, Endings, Header, Mark, Record};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The rows of a store, as one transaction sees them.
pub trait Rows {
    /// The record of `id`, whatever its state. `is_corrupt()` if it cannot be decoded.
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>>;

    /// The endings that concern a record of `user`.
    fn endings(&mut self, user: Option<&str>) -> Result<Endings>;

    /// The store's generation: 0, and one more for each ending of a user's or everyone's sessions.
    fn generation(&mut self) -> Result<u64>;

    /// IDs of records of `user` that carry no mark ([`Record::listed_user`]): all of them, or
    /// `limit` of them if there are more. Expired ones are among them until they are swept.
    fn sessions_of(&mut self, user: &str, limit: usize) -> Result<Vec<SessionId>>;

    /// How long headers of ended sessions are kept.
    fn keep_ended(&self) -> Duration;
}

/// A row to write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Under which ID.
    pub id: SessionId,
    /// What stood there.
    pub before: Option<Record>,
    /// What stands there now.
    pub after: Record,
}

/// What a commit comes to: rows to write, all or none, and the answer to give once they are
/// durable.
#[derive(Debug)]
pub struct Applied {
    /// The answer.
    pub outcome: Outcome,
    /// The row of the session itself.
    pub write: Option<Write>,
    /// Further rows: the new session of a renewal, sessions ended by the cap.
    pub more: Vec<Write>,
}

impl Applied {
    fn nothing(outcome: Outcome) -> Self {
        Self { outcome, write: None, more: Vec::new() }
    }
}

/// Decides `commit` against `rows`.
///
/// An error changes nothing.
pub fn apply(commit: &Commit, rows: &mut impl Rows) -> Result<Applied> {
    let current = match rows.get(&commit.id) {
        Ok(current) => current,
        Err(error) if error.is_corrupt() => {
            return Ok(Applied::nothing(match commit.op {
                Op::Create { .. } => Outcome::Exists,
                _ => Outcome::Absent(Absence::Corrupt),
            }));
        }
        Err(error) => return Err(error),
    };
    if let Op::Create { realm, draft, login } = &commit.op {
        return match current {
            Some(_) => Ok(Applied::nothing(Outcome::Exists)),
            None => create(commit, realm.as_deref(), draft, login.as_ref(), rows),
        };
    }
    let Some(current) = current else {
        return Ok(Applied::nothing(Outcome::Absent(Absence::NotFound)));
    };
    let endings = rows.endings(current.user())?;
    match (change(commit, &current, &endings, rows.keep_ended())?, &commit.op) {
        (Change::Data(after) | Change::To(after), _) => Ok(Applied {
            outcome: Outcome::Committed(after.clone()),
            write: Some(Write { id: commit.id, before: Some(current), after }),
            more: Vec::new(),
        }),
        (Change::None(outcome), _) => Ok(Applied::nothing(outcome)),
        (Change::More, Op::Renew { new_id, draft, login, grace }) => {
            let renewal = Renewal { new_id: *new_id, draft, login: login.as_ref(), grace: *grace };
            renew(commit, current, &renewal, rows)
        }
        // A creation, handled above.
        (Change::More, _) => Ok(Applied::nothing(Outcome::Exists)),
    }
}

/// What becomes of the record of a commit's session.
pub(super) enum Change {
    /// This one takes its place, and is filed where it was.
    Data(Record),
    /// This one takes its place.
    To(Record),
    /// It stays.
    None(Outcome),
    /// It is live, and other rows are concerned.
    More,
}

/// The same as [`apply`], where that needs nothing but the record and the endings that concern it.
pub(super) fn change(
    commit: &Commit,
    current: &Record,
    endings: &Endings,
    keep_ended: Duration,
) -> Result<Change> {
    let Access { at, timeouts, .. } = &commit.access;
    if let Some(absence) = current.absence(*at, timeouts.as_ref(), endings) {
        return Ok(Change::None(Outcome::Absent(absence)));
    }
    match &commit.op {
        Op::MergeUnseen { realm, .. } if realm.as_deref() != current.realm() => {
            Ok(Change::None(Outcome::Absent(Absence::NotFound)))
        }
        Op::Merge(draft) | Op::MergeUnseen { draft, .. } => merged(commit, current, draft),
        Op::CompareAndSet { key, expected, value } => {
            if current.data().get(key) != expected.as_deref() {
                return Ok(Change::None(Outcome::Changed(current.clone())));
            }
            let mut draft = Draft::default();
            match value {
                Some(value) => draft.changes.set(key, value.to_vec())?,
                None => draft.changes.remove(key),
            }
            merged(commit, current, &draft)
        }
        Op::End { by, grace } => current.ended(*at, *by, keep_ended, *grace).map(Change::To),
        Op::Create { .. } | Op::Renew { .. } => Ok(Change::More),
    }
}

/// Carries out a merge in the record itself, where that takes no other memory: one value as long as
/// the one before, in a record that nobody else has. False, and nothing is changed, if there is
/// more to it, which [`change`] then says. A shortcut: what it decides is held to [`change`] wherever
/// debug assertions are on.
pub(super) fn change_in_place(commit: &Commit, current: &mut Record, endings: &Endings) -> bool {
    let draft = match &commit.op {
        Op::Merge(draft) => draft,
        Op::MergeUnseen { realm, draft } if realm.as_deref() == current.realm() => draft,
        _ => return false,
    };
    // First what is nearly always in the way, if anything is, and costs least.
    if current.is_shared() {
        return false;
    }
    let Some((place, value)) = draft.changes.in_place(current.data()) else { return false };
    let Access { at, timeouts, .. } = &commit.access;
    let is_refused = current.size_bytes() > commit.max_data_bytes
        || current.absence(*at, timeouts.as_ref(), endings).is_some();
    if is_refused || !is_plain(commit, current, draft) {
        return false;
    }
    // Only what an ending keeps depends on how long it is kept.
    let by_copy = cfg!(debug_assertions).then(|| change(commit, current, endings, Duration::ZERO));
    let is_done = current.write_in_place(seen_by(commit, current), place, value);
    debug_assert!(
        !is_done || matches!(&by_copy, Some(Ok(Change::Data(after))) if after == &*current)
    );
    is_done
}

/// What is left of `record` if it is live at `at` and ended now; `None` if it is over already.
pub fn end_record(
    record: &Record,
    endings: &Endings,
    at: Timestamp,
    by: EndedBy,
    keep: Duration,
) -> Result<Option<Record>> {
    if record.absence(at, None, endings).is_some() {
        return Ok(None);
    }
    record.ended(at, by, keep, Duration::ZERO).map(Some)
}

fn create(
    commit: &Commit,
    realm: Option<&str>,
    draft: &Draft,
    login: Option<&Login>,
    rows: &mut impl Rows,
) -> Result<Applied> {
    let at = commit.access.at;
    let mut header = Header::new(at, &commit.access.timeouts.unwrap_or_default());
    header.realm = realm.map(Into::into);
    header.generation = rows.generation()?;
    let more = match login {
        Some(login) => sign_in(&mut header, login, commit, rows)?,
        None => Vec::new(),
    };
    draft.write_to(&mut header);
    header.refile();
    let after = finish(commit, &header, &draft.changes, Data::EMPTY)?;
    Ok(Applied {
        outcome: Outcome::Committed(after.clone()),
        write: Some(Write { id: commit.id, before: None, after }),
        more,
    })
}

fn merged(commit: &Commit, current: &Record, draft: &Draft) -> Result<Change> {
    if is_plain(commit, current, draft)
        && let Some(after) = current.committed(seen_by(commit, current), &draft.changes)
    {
        debug_assert_eq!(Some(&after), repacked(commit, current, draft).ok().as_ref());
        return bounded(commit, after, current.data(), &draft.changes).map(Change::Data);
    }
    let after = repacked(commit, current, draft)?;
    bounded(commit, after, current.data(), &draft.changes).map(Change::To)
}

/// Whether a merge changes nothing but data, and what every commit changes.
fn is_plain(commit: &Commit, current: &Record, draft: &Draft) -> bool {
    draft.label.is_none()
        && draft.remember.is_none()
        && commit.access.timeouts.is_none_or(|timeouts| current.is_within(&timeouts))
}

/// When the session was last seen, once `commit` is merged: a commit without a layer is no request,
/// and keeps nobody's session alive.
fn seen_by(commit: &Commit, current: &Record) -> Timestamp {
    match commit.access.timeouts {
        Some(_) => current.last_seen_at().max(commit.access.at),
        None => current.last_seen_at(),
    }
}

/// The merged record by way of its unpacked header.
fn repacked(commit: &Commit, current: &Record, draft: &Draft) -> Result<Record> {
    let mut header = current.header();
    header.version = header.version.saturating_add(1);
    header.last_seen_at = seen_by(commit, current);
    header.tighten(commit.access.timeouts.as_ref());
    draft.write_to(&mut header);
    header.refile_if_earlier();
    Record::changed(&header, current.data(), &draft.changes)
}

struct Renewal<'a> {
    new_id: SessionId,
    draft: &'a Draft,
    login: Option<&'a Login>,
    grace: Duration,
}

fn renew(
    commit: &Commit,
    current: Record,
    renewal: &Renewal<'_>,
    rows: &mut impl Rows,
) -> Result<Applied> {
    let at = commit.access.at;
    match rows.get(&renewal.new_id) {
        Ok(None) => {}
        Err(error) if !error.is_corrupt() => return Err(error),
        _ => return Ok(Applied::nothing(Outcome::Exists)),
    }
    let mut header = current.header();
    header.version = header.version.saturating_add(1);
    header.last_seen_at = header.last_seen_at.max(at);
    header.generation = rows.generation()?;
    header.tighten(commit.access.timeouts.as_ref());
    let mut kept = current.data();
    let mut more = Vec::new();
    if let Some(login) = renewal.login {
        if current.user().is_some_and(|user| user != &*login.user) {
            kept = Data::EMPTY;
            header.label = None;
        }
        more = sign_in(&mut header, login, commit, rows)?;
    }
    renewal.draft.write_to(&mut header);
    header.refile();
    let after = finish(commit, &header, &renewal.draft.changes, kept)?;
    let mark = current.superseded(at, renewal.new_id, renewal.grace)?;
    more.push(Write { id: renewal.new_id, before: None, after: after.clone() });
    Ok(Applied {
        outcome: Outcome::Committed(after),
        write: Some(Write { id: commit.id, before: Some(current), after: mark }),
        more,
    })
}

/// Binds the user and starts a fresh absolute deadline; ends sessions for the cap.
fn sign_in(
    header: &mut Header,
    login: &Login,
    commit: &Commit,
    rows: &mut impl Rows,
) -> Result<Vec<Write>> {
    let at = commit.access.at;
    let timeouts = commit.access.timeouts.unwrap_or_default();
    header.user = Some(login.user.clone());
    header.authenticated_at = Some(at);
    header.absolute_at = at.saturating_add(timeouts.absolute);
    header.idle = timeouts.idle;
    header.remembered = false;
    match &login.cap {
        Some(cap) => make_room(cap, header, commit, rows),
        None => Ok(Vec::new()),
    }
}

/// Counts the sessions that the user has in the realm of `header`, as far as the cap looks.
fn make_room(
    cap: &SessionCap,
    header: &Header,
    commit: &Commit,
    rows: &mut impl Rows,
) -> Result<Vec<Write>> {
    let at = commit.access.at;
    let user = header.user.as_deref().unwrap_or_default();
    let endings = rows.endings(Some(user))?;
    let max = cap.max.max(1);
    let mut live = Vec::new();
    let ids = rows.sessions_of(user, cap.most_looked_at())?;
    for id in ids.into_iter().filter(|id| *id != commit.id) {
        if cap.refuse && live.len() >= max {
            break;
        }
        match rows.get(&id) {
            Ok(Some(record))
                if record.realm() == header.realm.as_deref()
                    && record.absence(at, None, &endings).is_none() =>
            {
                live.push((record.authenticated_at(), id, record));
            }
            Err(error) if !error.is_corrupt() => return Err(error),
            _ => {}
        }
    }
    let surplus = (live.len() + 1).saturating_sub(max);
    if surplus == 0 {
        return Ok(Vec::new());
    }
    if cap.refuse {
        let message = format!("the user has the most sessions allowed, {max}");
        return Err(Error::new(Kind::TooManySessions, message));
    }
    live.sort_by_key(|(since, id, _)| (*since, *id));
    live.into_iter()
        .take(surplus)
        .map(|(_, id, record)| {
            let after = record.ended(at, EndedBy::Cap, rows.keep_ended(), Duration::ZERO)?;
            Ok(Write { id, before: Some(record), after })
        })
        .collect()
}

/// Packs the new record and holds its data to the bound.
fn finish(commit: &Commit, header: &Header, changes: &Changes, before: Data<'_>) -> Result<Record> {
    bounded(commit, Record::changed(header, before, changes)?, before, changes)
}

/// Refuses a record whose data `changes` made of `before`, if that is too much.
fn bounded(commit: &Commit, record: Record, before: Data<'_>, changes: &Changes) -> Result<Record> {
    let max = commit.max_data_bytes;
    // Nearly every record is within the bound with its header.
    if record.size_bytes() <= max {
        return Ok(record);
    }
    let size = record.data().as_bytes().len();
    // A session that is over the bound already (it was lowered) may still shrink.
    if !changes.is_empty() && size > max && size >= before.as_bytes().len() {
        let message = format!("the session's data would be {size} bytes, {max} are allowed");
        return Err(Error::new(Kind::TooLarge, message));
    }
    Ok(record)
}

impl Header {
    /// The earlier of stored and configured timeouts wins from now on.
    fn tighten(&mut self, configured: Option<&Timeouts>) {
        if let Some(configured) = configured.filter(|_| !self.remembered) {
            let began = self.authenticated_at.unwrap_or(self.created_at);
            self.idle = self.idle.min(configured.idle);
            self.absolute_at = self.absolute_at.min(began.saturating_add(configured.absolute));
        }
    }
}

impl Draft {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.label.is_none() && self.remember.is_none()
    }

    fn write_to(&self, header: &mut Header) {
        debug_assert_eq!(header.mark, Mark::None, "what is over is never written again");
        if let Some(label) = &self.label {
            header.label.clone_from(label);
        }
        if let Some(own) = &self.remember {
            let began = header.authenticated_at.unwrap_or(header.created_at);
            header.idle = own.idle;
            header.absolute_at = began.saturating_add(own.absolute);
            header.remembered = true;
        }
    }
}
