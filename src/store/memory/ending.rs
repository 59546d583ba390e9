//! Ending sessions: some, those of a user, everyone's.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Inner, View};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::{Ending, Endings, Mark, Record};
use crate::store::{End, EndReport, Filter, Rows, Target, Write, end_record};

#[derive(Default)]
pub(super) struct AllEndings {
    pub(super) generation: u64,
    pub(super) everyone: Option<Ending>,
    pub(super) users: HashMap<Box<str>, Ending>,
    /// Endings whose rows still have to lose their data.
    pub(super) pending: Vec<PendingEnding>,
}

#[derive(Clone)]
pub(super) struct PendingEnding {
    generation: u64,
    /// `None` is everyone.
    user: Option<Box<str>>,
}

impl Inner {
    pub(super) fn end(&self, end: &End) -> Result<EndReport> {
        self.open()?;
        match &end.target {
            Target::Sessions { ids, filter } => self.end_sessions(end, ids, filter),
            Target::User(user) => self.end_generation(end, Some(user)),
            Target::Everyone => self.end_generation(end, None),
        }
    }

    fn end_sessions(&self, end: &End, ids: &[SessionId], filter: &Filter) -> Result<EndReport> {
        let touch_interval = self.longest.get().touch_interval;
        let mut report = EndReport::default();
        for id in ids.iter().filter(|id| Some(**id) != end.except) {
            let mut view = View::of_one_and_users(self, id);
            let Some(record) = view.get(id)? else { continue };
            let endings = self.endings_of(record.user());
            match end_record(&record, &endings, end.at, end.by, self.keep_ended)? {
                None => report.already_over += 1,
                Some(after) if filter.matches(id, &record, &endings, end.at, touch_interval) => {
                    self.put_ended(&mut view, Write { id: *id, before: Some(record), after });
                    report.ended += 1;
                }
                Some(_) => {}
            }
        }
        Ok(report)
    }

    fn end_generation(&self, end: &End, user: Option<&str>) -> Result<EndReport> {
        // Held throughout, so that the spared session is renewed into the generation in one step
        // with its beginning: no load comes between, since it needs the shard.
        let _users = self.users.lock();
        let mut spared = end.except.map(|id| (id, self.shards[Self::shard_of(&id)].write()));
        let mut endings = self.endings.write();
        let spared = spared.as_mut().and_then(|(id, shard)| shard.rows.get_mut(id)).filter(|row| {
            let of_user = row.user().and_then(|user| endings.users.get(user).copied());
            let before = Endings { everyone: endings.everyone, user: of_user };
            row.absence(end.at, None, &before).is_none()
        });
        endings.generation += 1;
        let generation = endings.generation;
        let ending = Ending { generation, at: end.at, by: end.by };
        match user {
            Some(user) => drop(endings.users.insert(user.into(), ending)),
            None => endings.everyone = Some(ending),
        }
        endings.pending.push(PendingEnding { generation, user: user.map(Into::into) });
        self.any_ending.store(true, Ordering::Release);
        if let Some(row) = spared {
            let mut header = row.header();
            header.generation = generation;
            *row = Record::new(&header, row.data())?;
        }
        let mut notes = self.events.notes();
        notes.ended_all(user, &ending);
        self.events.tell(notes);
        Ok(EndReport::default())
    }

    /// Takes the data from what an ending of many ended.
    pub(super) fn finish_ending(&self, pending: &PendingEnding) {
        let ids: Vec<_> = match &pending.user {
            Some(user) => {
                let users = self.users.lock();
                users.sessions.get(user).map_or_else(Vec::new, |ids| ids.iter().copied().collect())
            }
            None => self
                .shards
                .iter()
                .flat_map(|shard| shard.read().rows.keys().copied().collect::<Vec<_>>())
                .collect(),
        };
        for id in ids {
            let mut view = View::of_one_and_users(self, &id);
            let Ok(Some(record)) = view.get(&id) else { continue };
            let ending = self.endings_of(record.user()).ending(record.generation());
            if record.mark() == Mark::None
                && let Some(ending) = ending
                && let Ok(after) =
                    record.ended(ending.at, ending.by, self.keep_ended, Duration::ZERO)
            {
                self.put_ended(&mut view, Write { id, before: Some(record), after });
            }
        }
        self.endings.write().finished(pending);
    }

    fn put_ended(&self, view: &mut View<'_>, write: Write) {
        let mut notes = self.events.notes();
        notes.wrote(std::iter::once(&write));
        view.put(write);
        self.events.tell(notes);
    }
}

impl AllEndings {
    /// What to finish next: the last ending of everyone's finishes all before it.
    pub(super) fn next_pending(&self) -> Option<PendingEnding> {
        let of_everyone = self.pending.iter().rev().find(|pending| pending.user.is_none());
        of_everyone.or(self.pending.first()).cloned()
    }

    /// No row that `done` ended is left, and none can be written. A later ending has rows of its
    /// own to finish.
    pub(super) fn finished(&mut self, done: &PendingEnding) {
        let is_covered = |generation: u64, user: &str| match &done.user {
            None => generation <= done.generation,
            Some(finished) => **finished == *user && generation <= done.generation,
        };
        self.users.retain(|user, ending| !is_covered(ending.generation, user));
        self.pending.retain(|pending| match &pending.user {
            Some(user) => !is_covered(pending.generation, user),
            None => done.user.is_some() || pending.generation > done.generation,
        });
    }
}
