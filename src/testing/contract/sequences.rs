//! Random sequences of calls against a store and the [model](super::model), one after the other
//! and at once. What fails is made as short as it can be before it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{Model, Over, Result as Expected, Slot, Step, View};
use super::trial::{
    DAY, HOUR, Racer, SECOND, START, Trial, compare_and_set, create, create_login, draft, ensure,
    eventually, logout, merge, merge_unseen, new_id, number_of, race, racer, renew, renew_login,
    sibling_of,
};
use super::{Failure, Setup, Suite, Verdict};
use crate::id::SessionId;
use crate::record::{Absence, EndedBy};
use crate::store::{Access, End, Filter, Freshness, KeyChange, Loaded, Outcome, Sweep, Target};

const SLOTS: usize = 6;
const KEYS: [&str; 3] = ["a", "b", "c"];
const USERS: [&str; 2] = ["alice", "bob"];
const LENGTH: usize = 24;
/// Each sequence costs a store of its own, and as much as some dozen rounds of a race.
const ROUNDS_PER_SEQUENCE: u32 = 10;
/// A race may have to be run again to fail again.
const TRIES: usize = 30;

pub(super) async fn model_sequences_end_as_the_model_says(suite: Suite) -> Verdict {
    for seed in 0..u64::from(suite.rounds.div_ceil(ROUNDS_PER_SEQUENCE)) {
        let steps = Random(seed).steps(LENGTH);
        if run(&suite, &steps).await.is_err() {
            let steps = shortened(&suite, steps).await;
            let why = run(&suite, &steps).await.err();
            let why = why.map_or_else(|| "not every time".into(), |failure| failure.to_string());
            return Err(Failure::new(format!("after {steps:?}: {why}")));
        }
    }
    Ok(())
}

pub(super) async fn model_calls_at_once_are_as_if_in_some_order(suite: Suite) -> Verdict {
    for seed in 0..u64::from(suite.rounds.div_ceil(ROUNDS_PER_SEQUENCE)) {
        let mut random = Random(seed ^ 0xace);
        let before = random.steps(8);
        let count = 2 + random.below(2);
        let at_once = random.racing(count);
        if let Err(why) = interleave(&suite, &before, &at_once).await {
            let before = shortened_before(&suite, before, &at_once).await;
            return Err(Failure::new(format!("after {before:?}, at once {at_once:?}: {why}")));
        }
    }
    Ok(())
}

/// Takes out what the failure does not need.
async fn shortened(suite: &Suite, mut steps: Vec<Step>) -> Vec<Step> {
    let mut chunk = steps.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + chunk).min(fewer.len()));
            if run(suite, &fewer).await.is_err() {
                steps = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    steps
}

async fn shortened_before(suite: &Suite, mut before: Vec<Step>, at_once: &[Step]) -> Vec<Step> {
    let mut at = 0;
    while at < before.len() {
        let mut fewer = before.clone();
        fewer.remove(at);
        let mut fails = false;
        for _ in 0..TRIES {
            fails = fails || interleave(suite, &fewer, at_once).await.is_err();
        }
        if fails {
            before = fewer;
        } else {
            at += 1;
        }
    }
    before
}

/// One after the other, everything compared after each.
async fn run(suite: &Suite, steps: &[Step]) -> Verdict {
    let (store, mut model) = Subject::open(suite)?;
    for (n, step) in steps.iter().enumerate() {
        store.trial.clock().set(model.now);
        store.follow_sweeps(&mut model).await?;
        let before = model.clone();
        let expected = model.apply(step);
        store.trial.clock().set(model.now);
        if comes_too_early(step, &steps[n + 1..], &before, &model) {
            continue;
        }
        let got = store.call(n, step).await?;
        ensure!(got == expected, "{step:?} came to {got:?} instead of {expected:?}");
        store.await_touch(&model, step).await?;
        store.follow_sweeps(&mut model).await?;
        store.compare(&model).await?;
    }
    store.trial.store().close().await?;
    Ok(())
}

/// Some one after the other, then some at once: there must be an order in which the model answers
/// the same and ends the same.
async fn interleave(suite: &Suite, before: &[Step], at_once: &[Step]) -> Verdict {
    let (store, mut model) = Subject::open(suite)?;
    for (n, step) in before.iter().enumerate() {
        let unchanged = model.clone();
        model.apply(step);
        store.trial.clock().set(model.now);
        let later: Vec<_> = before[n + 1..].iter().chain(at_once).cloned().collect();
        if comes_too_early(step, &later, &unchanged, &model) {
            continue;
        }
        store.call(n, step).await?;
        store.await_touch(&model, step).await?;
        store.follow_sweeps(&mut model).await?;
    }
    let racers: Vec<Racer<Expected>> = at_once
        .iter()
        .enumerate()
        .map(|(n, step)| {
            let (store, step) = (store.clone(), step.clone());
            racer(async move { store.call(n, &step).await })
        })
        .collect();
    let got = race(racers).await?;
    let mut views = Vec::new();
    for slot in 0..SLOTS {
        views.push(store.view(slot).await?);
    }
    let explained = orders(at_once.len()).into_iter().any(|order| {
        let mut model = model.clone();
        order.iter().all(|&n| model.apply(&at_once[n]) == got[n])
            && (0..SLOTS).all(|slot| model.view(slot) == views[slot])
    });
    store.trial.store().close().await?;
    ensure!(explained, "answers {got:?} and {views:?} come of no order");
    Ok(())
}

/// Whether this is a touch that changes nothing, of an ID under which a session begins later.
///
/// Nobody can see when such a touch is carried out, so it may meet the later session. Outside of
/// these sequences it cannot: an ID is random, and known to nobody before its only session begins.
fn comes_too_early(step: &Step, later: &[Step], before: &Model, after: &Model) -> bool {
    let Step::Touch { slot } = *step else { return false };
    let begins = |step: &Step| match *step {
        Step::Create { slot: begun, .. } | Step::Renew { to: begun, .. } => begun == slot,
        _ => false,
    };
    before.view(slot) == after.view(slot) && later.iter().any(begins)
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in orders(count - 1) {
        for place in 0..count {
            let mut order = shorter.clone();
            order.insert(place, count - 1);
            all.push(order);
        }
    }
    all
}

/// A store, and the IDs that slots stand for: all of one shard, so that any can be renewed to any.
#[derive(Clone)]
struct Subject {
    trial: Trial,
    ids: Vec<SessionId>,
}

impl Subject {
    fn open(suite: &Suite) -> Verdict<(Self, Model)> {
        let setup = Setup::new();
        let trial = suite.trial_with(&setup)?;
        let first = new_id()?;
        let ids = (0..SLOTS).map(|_| sibling_of(first)).collect::<Verdict<_>>()?;
        Ok((Self { trial, ids }, Model::new(START, setup.keep_ended)))
    }

    async fn call(&self, n: usize, step: &Step) -> Verdict<Expected> {
        let (trial, at) = (&self.trial, self.trial.now());
        let op = match step {
            Step::Create { user, .. } => match user {
                Some(user) => create_login(USERS[usize::from(*user)], None),
                None => create(draft(&[])?),
            },
            Step::Merge { key, value, .. } => {
                let entries = [(KEYS[usize::from(*key)], *value)];
                if value.is_multiple_of(2) {
                    merge(&entries)
                } else {
                    merge_unseen(None, &entries)
                }?
            }
            Step::Swap { key, expected, value, .. } => {
                compare_and_set(KEYS[usize::from(*key)], *expected, *value)
            }
            Step::Renew { to, user, .. } => match user {
                Some(user) => renew_login(self.ids[*to], USERS[usize::from(*user)]),
                None => renew(self.ids[*to]),
            },
            Step::End { .. } => logout(),
            Step::EndIds { slots } => {
                let ids = slots.iter().map(|slot| self.ids[*slot]).collect();
                let filter = Filter::new();
                return self.end(n, Target::Sessions { ids, filter }, None).await;
            }
            Step::EndUser { user, except } => {
                let target = Target::User(USERS[usize::from(*user)].into());
                return self.end(n, target, *except).await;
            }
            Step::EndEveryone { except } => return self.end(n, Target::Everyone, *except).await,
            Step::Touch { slot } => {
                trial.handle(n).touch(&self.ids[*slot], &trial.access());
                return Ok(Expected::Done);
            }
            Step::Purge | Step::Sweep => {
                let purge = *step == Step::Purge;
                while trial.handle(n).sweep(Sweep { at, limit: 100, purge }).await?.more {}
                return Ok(Expected::Done);
            }
            Step::Advance { .. } | Step::Back { .. } => return Ok(Expected::Done),
            Step::Rotate => {
                let change = KeyChange::Rotate { at, retire_after: Some(HOUR) };
                return Ok(refused_if(&trial.handle(n).change_keys(change).await.map(drop)));
            }
            Step::Retire { key } => {
                let ring = trial.handle(n).keys(Freshness::Current).await?;
                let Some(key) = ring.keys().nth(*key) else { return Ok(Expected::Refused) };
                let change = KeyChange::Retire { key: key.id() };
                return Ok(refused_if(&trial.handle(n).change_keys(change).await.map(drop)));
            }
        };
        let (Step::Create { slot, .. }
        | Step::Merge { slot, .. }
        | Step::Swap { slot, .. }
        | Step::Renew { from: slot, .. }
        | Step::End { slot }) = step
        else {
            return Err(Failure::new("every other step was taken above"));
        };
        Ok(match trial.commit_on(n, self.ids[*slot], op).await? {
            Outcome::Committed(_) => Expected::Done,
            Outcome::Changed(_) => Expected::Changed,
            Outcome::Exists => Expected::Taken,
            Outcome::Absent(absence) => Expected::Over(self.over(absence)?),
        })
    }

    /// A touch is recorded off the caller's path.
    async fn await_touch(&self, model: &Model, step: &Step) -> Verdict {
        let Step::Touch { slot } = *step else { return Ok(()) };
        let View::Live { seen_at, .. } = model.view(slot) else { return Ok(()) };
        eventually("a touch is recorded", || async move {
            let view = self.view(slot).await?;
            Ok(matches!(view, View::Live { seen_at: seen, .. } if seen == seen_at))
        })
        .await
    }

    async fn end(&self, n: usize, target: Target, except: Option<Slot>) -> Verdict<Expected> {
        let counts = matches!(target, Target::Sessions { .. });
        let except = except.map(|slot| self.ids[slot]);
        let end = End { target, except, by: EndedBy::Application, at: self.trial.now() };
        let report = self.trial.handle(n).end(end).await?;
        Ok(if counts {
            Expected::Counted(report.ended, report.already_over)
        } else {
            Expected::Done
        })
    }

    fn over(&self, absence: Absence) -> Verdict<Over> {
        Ok(match absence {
            Absence::NotFound => Over::NotFound,
            Absence::Expired => Over::Expired,
            Absence::Ended { .. } => Over::Ended,
            Absence::Superseded { successor } => {
                let slot = self.ids.iter().position(|id| *id == successor);
                Over::Superseded(slot.ok_or_else(|| Failure::new("an unknown successor"))?)
            }
            Absence::Corrupt => return Err(Failure::new("a record cannot be decoded")),
        })
    }

    /// What the current state holds of `slot`.
    async fn view(&self, slot: Slot) -> Verdict<View> {
        let Some(found) = self.trial.store().inspect(&self.ids[slot]).await? else {
            return Ok(View::Over(Over::NotFound));
        };
        let Access { at, timeouts, .. } = self.trial.access();
        let record = found.record;
        if let Some(absence) = record.absence(at, timeouts.as_ref(), &found.endings) {
            return Ok(View::Over(self.over(absence)?));
        }
        let mut data = BTreeMap::new();
        for (number, key) in (0..).zip(KEYS) {
            data.extend(number_of(&record, key).map(|value| (number, value)));
        }
        let user = record.user().and_then(|user| USERS.iter().position(|name| *name == user));
        Ok(View::Live {
            data,
            user: user.and_then(|user| u8::try_from(user).ok()),
            absolute_at: record.absolute_at(),
            seen_at: record.last_seen_at(),
        })
    }

    /// What a sweep may have erased has been, or not: both are right.
    async fn follow_sweeps(&self, model: &mut Model) -> Verdict {
        for slot in 0..SLOTS {
            if self.trial.store().inspect(&self.ids[slot]).await?.is_none() {
                model.forget_swept(slot);
            }
        }
        Ok(())
    }

    async fn compare(&self, model: &Model) -> Verdict {
        for slot in 0..SLOTS {
            let (view, expected) = (self.view(slot).await?, model.view(slot));
            ensure!(view == expected, "session {slot} is {view:?} instead of {expected:?}");
            let loaded =
                match self.trial.store().load(&self.ids[slot], &self.trial.access()).await? {
                    Loaded::Live(_) => None,
                    Loaded::Absent(absence) => Some(self.over(absence)?),
                };
            let over = if let View::Over(over) = expected { Some(over) } else { None };
            // Another handle's change may be confirmed a moment later.
            let lags = self.trial.handles().len() > 1 && loaded.is_none();
            ensure!(loaded == over || lags, "session {slot} loads {loaded:?} instead of {over:?}");
        }
        let ring = self.trial.store().keys(Freshness::Current).await?;
        let keys = ring.keys().filter(|key| key.verifies_at(model.now)).count();
        let expected = model.verifying();
        ensure!(keys == expected, "{keys} keys verify instead of {expected}");
        Ok(())
    }
}

fn refused_if(changed: &crate::Result<()>) -> Expected {
    if changed.is_ok() { Expected::Done } else { Expected::Refused }
}

/// `SplitMix64`: the same steps from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or_default() % end
    }

    fn small(&mut self, end: usize) -> u8 {
        u8::try_from(self.below(end)).unwrap_or_default()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| value(self))
    }

    fn slot(&mut self) -> Slot {
        self.below(SLOTS)
    }

    fn steps(&mut self, count: usize) -> Vec<Step> {
        (0..count).map(|_| self.step()).collect()
    }

    /// Steps that every store takes in one transaction.
    fn racing(&mut self, count: usize) -> Vec<Step> {
        std::iter::repeat_with(|| self.change()).take(count).collect()
    }

    fn step(&mut self) -> Step {
        match self.below(24) {
            0 => Step::Purge,
            1 => Step::Sweep,
            2 | 3 => Step::Touch { slot: self.slot() },
            4..7 => Step::Advance {
                by: [SECOND, GRACE_AND_MORE, HOUR, HOUR * 12, ALMOST_A_DAY, DAY * 2][self.below(6)],
            },
            7 => Step::Back { by: [SECOND, HOUR, DAY][self.below(3)] },
            8 => Step::Rotate,
            9 => Step::Retire { key: self.below(3) },
            _ => self.change(),
        }
    }

    fn change(&mut self) -> Step {
        let slot = self.slot();
        match self.below(14) {
            0..4 => Step::Create { slot, user: self.maybe(|random| random.small(2)) },
            4..6 => Step::Merge { slot, key: self.small(3), value: self.below(3) as u64 },
            6..8 => {
                let expected = self.maybe(|random| random.below(3) as u64);
                Step::Swap { slot, key: self.small(3), expected, value: self.below(3) as u64 }
            }
            8..10 => {
                let to = self.slot();
                Step::Renew { from: slot, to, user: self.maybe(|random| random.small(2)) }
            }
            10 => Step::End { slot },
            11 => Step::EndIds { slots: vec![slot, (slot + 1) % SLOTS] },
            12 => Step::EndUser { user: self.small(2), except: self.maybe(Self::slot) },
            _ => Step::EndEveryone { except: self.maybe(Self::slot) },
        }
    }
}

const GRACE_AND_MORE: Duration = Duration::from_secs(31);
const ALMOST_A_DAY: Duration = Duration::from_millis(24 * 3_600_000 - 1);
