//! Which answers were given, and what the store may hold according to them.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::model::{Action, World};

/// The world by the answers given, and what was asked for and not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) world: World,
    pub(crate) asked: Vec<Asked>,
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

    /// What is in flight.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        if self.asked.is_empty() {
            return vec!["(nothing)"];
        }
        self.asked.iter().map(|asked| asked.kind).collect()
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

    /// The world that `found` is, if each action without an answer is whole or absent in it.
    pub(crate) fn settle(&self, found: &World) -> Result<World, String> {
        let mut settled = self.known();
        for asked in &self.asked {
            let changed: BTreeMap<_, _> = asked
                .after
                .sessions
                .iter()
                .filter(|(id, live)| self.world.sessions.get(*id).unwrap_or(&None) != *live)
                .collect();
            let rotated = asked.after.ring_version != self.world.ring_version;
            let landed = changed.iter().all(|(id, live)| found.sessions.get(*id) == Some(*live))
                && (!rotated || found.ring_version == asked.after.ring_version);
            if landed {
                settled.sessions.extend(changed.iter().map(|(id, live)| (**id, (*live).clone())));
                settled.ring_version = settled.ring_version.max(asked.after.ring_version);
            }
        }
        if settled == *found { Ok(settled) } else { Err(difference(&settled, found, &self.asked)) }
    }
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

fn short(live: Option<&Option<crate::model::Live>>) -> String {
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
