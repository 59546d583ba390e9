//! Rules 7, 9 and 12: what ended stays ended, is seen as ended at once, and has lost its data.

use super::trial::{
    DAY, GRACE, HOUR, MILLI, SECOND, TIMEOUTS, Trial, access, committed, compare_and_set, ensure,
    is_committed, is_ended, logout, merge, merge_unseen, new_id, race_two, refused, renew,
    sibling_of,
};
use super::{Failure, Setup, Suite, Verdict};
use crate::id::SessionId;
use crate::record::{Absence, EndedBy, Mark, State};
use crate::store::{
    Commit, DEFAULT_MAX_DATA_BYTES, End, Filter, Op, Outcome, Selector, SessionStore, Sweep, Target,
};

/// What comes late.
#[derive(Clone, Copy)]
enum Late {
    Merge,
    MergeUnseen,
    CompareAndSet,
    Touch,
    Renewal(SessionId),
}

impl Late {
    fn nth(n: u32, id: SessionId) -> Verdict<Self> {
        Ok(match n % 5 {
            0 => Self::Merge,
            1 => Self::MergeUnseen,
            2 => Self::CompareAndSet,
            3 => Self::Touch,
            _ => Self::Renewal(sibling_of(id)?),
        })
    }

    async fn carry_out(self, trial: &Trial, id: SessionId) -> Verdict<Option<Outcome>> {
        let op = match self {
            Self::Merge => merge(&[("late", 1)])?,
            Self::MergeUnseen => merge_unseen(None, &[("late", 1)])?,
            Self::CompareAndSet => compare_and_set("late", None, 1),
            Self::Renewal(new_id) => renew(new_id),
            Self::Touch => {
                trial.handle(1).touch(&id, &access(trial.now().saturating_add(SECOND)));
                return Ok(None);
            }
        };
        Ok(Some(trial.commit_on(1, id, op).await?))
    }
}

/// Races a logout with something late; afterwards there is no session, unless it was renewed
/// before the logout, which then found nothing to end.
async fn logout_against(suite: Suite, late: impl Fn(SessionId) -> Verdict<Late>) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[("n", 1)]).await?;
        let late = late(id)?;
        let (one, other) = (trial.clone(), trial.clone());
        let (ended, answer) =
            race_two(async move { Ok(one.commit_on(0, id, logout()).await?) }, async move {
                late.carry_out(&other, id).await
            })
            .await?;
        ensure!(!trial.is_live(id).await?, "round {round}: revived after {ended:?}");
        if let Outcome::Absent(absence) = ended {
            let Late::Renewal(successor) = late else {
                return Err(Failure::new(format!("a logout found {absence:?}")));
            };
            ensure!(absence == Absence::Superseded { successor }, "a logout found {absence:?}");
            trial.live(successor).await?;
        } else {
            committed(ended)?;
            ensure!(is_ended(trial.absent(id).await?), "round {round}: not known as ended");
            if let Late::Renewal(successor) = late {
                let left = trial.record(successor).await?;
                ensure!(left.is_none(), "round {round}: it was ended and renewed");
                let answer = answer.ok_or_else(|| Failure::new("no answer"))?;
                ensure!(is_ended(refused(&answer)?), "a late renewal was answered {answer:?}");
            }
        }
        refused(&trial.commit_on(1, id, merge(&[("later", 1)])?).await?)?;
    }
    Ok(())
}

pub(super) async fn rule_07_logout_wins_over_late_merge(suite: Suite) -> Verdict {
    let is_even = |id: SessionId| id.as_bytes()[SessionId::LEN - 1].is_multiple_of(2);
    logout_against(suite, |id| Ok(if is_even(id) { Late::Merge } else { Late::MergeUnseen })).await
}

pub(super) async fn rule_07_logout_wins_over_late_compare_and_set(suite: Suite) -> Verdict {
    logout_against(suite, |_| Ok(Late::CompareAndSet)).await
}

pub(super) async fn rule_07_logout_wins_over_late_touch(suite: Suite) -> Verdict {
    logout_against(suite, |_| Ok(Late::Touch)).await
}

pub(super) async fn rule_07_logout_wins_over_late_renewal(suite: Suite) -> Verdict {
    logout_against(suite, |id| Ok(Late::Renewal(sibling_of(id)?))).await
}

/// Races the end of all sessions of a user, in one of its ways, with something late.
async fn ending_against_late(suite: Suite, target: impl Fn(&str, SessionId) -> Target) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let user = format!("user-{round}");
        let id = trial.login(&user).await?;
        let late = Late::nth(round, id)?;
        let end =
            End { target: target(&user, id), except: None, by: EndedBy::Cli, at: trial.now() };
        let of_ids = matches!(end.target, Target::Sessions { .. });
        let (one, other) = (trial.clone(), trial.clone());
        race_two(async move { Ok(one.handle(0).end(end).await?) }, async move {
            late.carry_out(&other, id).await
        })
        .await?;
        ensure!(!trial.is_live(id).await?, "round {round}: revived");
        if let Late::Renewal(successor) = late
            && trial.is_live(successor).await?
        {
            // Only where the session had moved away from the ID that was ended.
            ensure!(of_ids, "round {round}: renewed into the time after the ending");
            ensure!(
                trial.state(id).await? == Some(State::Superseded),
                "round {round}: it was ended and renewed"
            );
        }
        refused(&trial.commit_on(1, id, merge(&[("later", 1)])?).await?)?;
        if round % 64 == 0 {
            trial.sweep().await?;
            ensure!(!trial.is_live(id).await?, "round {round}: revived by sweeping");
        }
    }
    Ok(())
}

pub(super) async fn rule_07_expiring_ids_wins_over_what_is_late(suite: Suite) -> Verdict {
    let target = |_: &str, id| Target::Sessions { ids: vec![id], filter: Filter::new() };
    ending_against_late(suite, target).await
}

pub(super) async fn rule_07_expiring_a_user_wins_over_what_is_late(suite: Suite) -> Verdict {
    ending_against_late(suite, |user: &str, _| Target::User(user.into())).await
}

pub(super) async fn rule_07_expiring_everyone_wins_over_what_is_late(suite: Suite) -> Verdict {
    ending_against_late(suite, |_: &str, _| Target::Everyone).await
}

/// At its deadline a session is purged while a request that came in just before it commits.
pub(super) async fn rule_07_purge_wins_over_what_is_late(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[("n", 1)]).await?;
        trial.clock().advance(TIMEOUTS.idle);
        let now = trial.now();
        let (op, new_id) = match round % 3 {
            0 => (merge(&[("late", 1)])?, None),
            1 => (compare_and_set("late", None, 1), None),
            _ => {
                let new_id = sibling_of(id)?;
                (renew(new_id), Some(new_id))
            }
        };
        let commit = Commit {
            id,
            access: access(now.saturating_sub(MILLI)),
            max_data_bytes: DEFAULT_MAX_DATA_BYTES,
            op,
        };
        let (one, other) = (trial.clone(), trial.clone());
        let (_, outcome) = race_two(
            async move {
                let sweep = Sweep { at: now, limit: 1000, purge: true };
                Ok(one.handle(0).sweep(sweep).await?)
            },
            async move { Ok(other.handle(1).commit(commit).await?) },
        )
        .await?;
        let at = new_id.unwrap_or(id);
        if is_committed(&outcome) {
            ensure!(trial.is_live(at).await?, "round {round}: a live session was purged");
            trial.commit(at, Op::End { by: EndedBy::Application, grace: GRACE }).await?;
        } else {
            refused(&outcome)?;
            ensure!(!trial.is_live(at).await?, "round {round}: a purged session was revived");
        }
        trial.clock().advance(HOUR);
        trial.store().purge().await?;
        ensure!(trial.record(at).await?.is_none(), "round {round}: a purge left something");
    }
    Ok(())
}

pub(super) async fn rule_07_late_commits_are_told_why(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let ended = trial.create(&[]).await?;
    trial.committed(ended, logout()).await?;
    let ended_at = trial.now();
    let by_cli = trial.create(&[]).await?;
    let target = Target::Sessions { ids: vec![by_cli], filter: Filter::new() };
    trial.store().end(End { target, except: None, by: EndedBy::Cli, at: ended_at }).await?;
    let expired = trial.create(&[]).await?;

    let told = |id| {
        let trial = trial.clone();
        async move {
            let absence = trial.absent(id).await?;
            for op in
                [merge(&[("n", 1)])?, compare_and_set("n", None, 1), renew(new_id()?), logout()]
            {
                let outcome = trial.commit(id, op).await?;
                let refused = refused(&outcome)?;
                ensure!(refused == absence, "load says {absence:?}, a commit {refused:?}");
            }
            Ok(absence)
        }
    };
    let concurrent = Absence::Ended { at: ended_at, by: EndedBy::Application, concurrent: true };
    ensure!(told(ended).await? == concurrent, "just logged out: {:?}", told(ended).await?);
    let of_cli = Absence::Ended { at: ended_at, by: EndedBy::Cli, concurrent: false };
    ensure!(told(by_cli).await? == of_cli, "ended by an operator: {:?}", told(by_cli).await?);
    trial.clock().advance(GRACE);
    let over = Absence::Ended { at: ended_at, by: EndedBy::Application, concurrent: false };
    ensure!(told(ended).await? == over, "logged out a while ago: {:?}", told(ended).await?);
    trial.clock().advance(TIMEOUTS.idle);
    ensure!(told(expired).await? == Absence::Expired, "expired: {:?}", told(expired).await?);
    ensure!(told(new_id()?).await? == Absence::NotFound, "unknown: not so told");
    Ok(())
}

pub(super) async fn rule_09_an_answered_end_is_seen_by_every_later_load(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds.min(500) {
        let user = format!("user-{round}");
        let id = trial.login(&user).await?;
        trial.live(id).await?;
        match round % 4 {
            0 => drop(trial.committed(id, logout()).await?),
            1 => drop(trial.store().expire(Selector::ids([id])).await?),
            2 => drop(trial.store().expire(Selector::user(&*user)).await?),
            _ => drop(trial.store().expire(Selector::everyone()).await?),
        }
        trial.absent(id).await?;
        let left = trial.store().sessions_of(&user).await?;
        ensure!(left.is_empty(), "round {round}: an ended session is still listed");
    }
    Ok(())
}

pub(super) async fn rule_12_ended_sessions_lose_their_data_at_once(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let (one, other) = (trial.login("alice").await?, trial.login("alice").await?);
    for id in [one, other] {
        trial.committed(id, merge(&[("secret", 1)])?).await?;
    }
    trial.clock().advance(SECOND);
    let ended_at = trial.now();
    let answered = trial.committed(one, logout()).await?;
    ensure!(answered.data().is_empty(), "an ended session was answered with its data");
    trial.store().expire(Selector::ids([other])).await?;
    for id in [one, other] {
        let record = trial.record(id).await?.ok_or_else(|| Failure::new("no header is kept"))?;
        ensure!(record.data().is_empty(), "an ended session kept its data");
        ensure!(record.user() == Some("alice"), "the header was not kept");
        let is_marked = matches!(record.mark(), Mark::Ended { at, by: EndedBy::Application, .. } if at == ended_at);
        ensure!(is_marked, "marked {:?}", record.mark());
    }
    Ok(())
}

pub(super) async fn rule_12_an_ending_of_many_takes_their_data_once_swept(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for everyone in [false, true] {
        let id = trial.login("alice").await?;
        trial.committed(id, merge(&[("secret", 1)])?).await?;
        let selector = if everyone { Selector::everyone() } else { Selector::user("alice") };
        let ended_at = trial.now();
        trial.store().expire(selector).await?;
        trial.clock().advance(SECOND);
        trial.sweep().await?;
        let record = trial.record(id).await?.ok_or_else(|| Failure::new("no header is kept"))?;
        ensure!(record.data().is_empty(), "an ended session kept its data");
        let marked = matches!(record.mark(), Mark::Ended { at, by: EndedBy::Application, .. } if at == ended_at);
        ensure!(marked, "marked {:?}", record.mark());
        ensure!(is_ended(trial.absent(id).await?), "it is not known as ended");
    }
    Ok(())
}

pub(super) async fn rule_12_headers_are_kept_for_a_while(suite: Suite) -> Verdict {
    let trial = suite.trial_with(&Setup { keep_ended: DAY, ..Setup::new() })?;
    let by_logout = trial.login("alice").await?;
    trial.committed(by_logout, logout()).await?;
    let by_ending = trial.login("bob").await?;
    trial.store().expire(Selector::user("bob")).await?;
    let ended_at = trial.now();
    trial.sweep().await?;
    trial.clock().set(ended_at.saturating_add(DAY).saturating_sub(MILLI));
    trial.sweep().await?;
    for id in [by_logout, by_ending] {
        ensure!(trial.state(id).await? == Some(State::Ended), "a header went too early");
    }
    trial.clock().set(ended_at.saturating_add(DAY));
    trial.clock().advance(HOUR);
    trial.sweep().await?;
    for id in [by_logout, by_ending] {
        ensure!(trial.record(id).await?.is_none(), "a header stayed for too long");
        let absence = trial.absent(id).await?;
        ensure!(absence == Absence::NotFound, "without a record: {absence:?}");
    }
    Ok(())
}
