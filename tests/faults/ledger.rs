//! Which answers were given, and what the store may hold according to them.

use std::collections::BTreeMap;
use std::fmt::Write;

use fastsession::SessionId;

use crate::model::{Action, Live, World};
use crate::table::{Fate, Table};

/// The world by the answers given, and what was asked for and not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) world: World,
    pub(crate) asked: Vec<Asked>,
    /// How many of each kind were acknowledged and are still to be counted.
    acknowledged: BTreeMap<&'static str, u64>,
    /// What a session's state was promised by.
    promised_by: BTreeMap<SessionId, &'static str>,
}

/// An action without a definite answer: whole or absent.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: &'static str,
    /// The world after it alone.
    after: World,
}

impl Ledger {
    pub(crate) fn ask(&mut self, action: &Action) {
        let mut after = self.world.clone();
        action.apply(&mut after);
        self.asked.push(Asked { kind: action.kind(), after });
    }

    pub(crate) fn acknowledge(&mut self, action: &Action) {
        let before = self.world.clone();
        action.apply(&mut self.world);
        *self.acknowledged.entry(action.kind()).or_default() += 1;
        for (id, _) in changes(&before, &self.world) {
            self.promised_by.insert(*id, action.kind());
        }
    }

    /// The state by `world`, with nothing left to answer or to count.
    pub(crate) fn settled(&self, world: World) -> Self {
        Self { world, promised_by: self.promised_by.clone(), ..Self::default() }
    }

    /// Every session that was ever asked for.
    pub(crate) fn known(&self) -> World {
        let mut known = self.world.clone();
        for asked in &self.asked {
            for id in asked.after.sessions.keys() {
                known.sessions.entry(*id).or_insert(None);
            }
        }
        known
    }

    /// The world that `found` is, if each action without an answer is whole or absent in it, and
    /// all else as acknowledged. Either way `table` gets what was found.
    pub(crate) fn settle(&self, found: &World, table: &mut Table) -> Result<World, String> {
        for (kind, count) in &self.acknowledged {
            table.acknowledged(kind, *count);
        }
        let mut settled = self.known();
        for asked in &self.asked {
            let changed: Vec<_> = changes(&self.world, &asked.after).collect();
            let rotated = asked.after.ring_version != self.world.ring_version;
            let landed = changed.iter().all(|(id, live)| found.sessions.get(*id) == Some(*live))
                && (!rotated || found.ring_version == asked.after.ring_version);
            if landed {
                settled.sessions.extend(changed.iter().map(|(id, live)| (**id, (*live).clone())));
                settled.ring_version = settled.ring_version.max(asked.after.ring_version);
            }
            table.pending(
                asked.kind,
                match landed {
                    _ if changed.is_empty() && !rotated => Fate::Invisible,
                    true => Fate::Landed,
                    false => Fate::Absent,
                },
            );
        }
        if settled == *found {
            return Ok(settled);
        }
        for (id, live) in &settled.sessions {
            let kind = self.promised_by.get(id).copied().unwrap_or("(none)");
            match (live, found.sessions.get(id)) {
                (None, Some(Some(_))) => table.revived(kind),
                (live, found) if found != Some(live) => table.lost(kind),
                _ => {}
            }
        }
        if settled.ring_version != found.ring_version {
            table.lost("rotate");
        }
        Err(difference(&settled, found, &self.asked))
    }
}

/// The sessions that are not in `after` as they were in `before`.
fn changes<'a>(
    before: &'a World,
    after: &'a World,
) -> impl Iterator<Item = (&'a SessionId, &'a Option<Live>)> {
    let unchanged = |id| before.sessions.get(id).unwrap_or(&None);
    after.sessions.iter().filter(move |(id, live)| unchanged(id) != *live)
}

fn difference(expected: &World, found: &World, asked: &[Asked]) -> String {
    let mut text = format!("ring: {} expected, {}\n", expected.ring_version, found.ring_version);
    for (id, live) in &expected.sessions {
        let found = found.sessions.get(id);
        if found != Some(live) {
            writeln!(text, "{id:.8}: {} expected, found {}", short(Some(live)), short(found))
                .unwrap();
        }
    }
    let kinds: Vec<_> = asked.iter().map(|asked| asked.kind).collect();
    writeln!(text, "without an answer: {kinds:?}").unwrap();
    text
}

fn short(live: Option<&Option<Live>>) -> String {
    match live {
        Some(Some(live)) => {
            let data = live
                .data
                .iter()
                .map(|(key, value)| format!("{key}: {} × {:?}", value.len(), value.first()));
            format!("live, {:?}, {:?}", live.user, data.collect::<Vec<_>>())
        }
        Some(None) => "over".into(),
        None => "nothing".into(),
    }
}
