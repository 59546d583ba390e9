//! Listing: in order, each once, whatever changes meanwhile.

use super::trial::{
    DAY, HOUR, MILLI, TIMEOUTS, Trial, draft, ensure, logout, merge, new_id, race_two, renew,
    sibling_of,
};
use super::{Failure, Suite, Verdict};
use crate::id::{IdPrefix, SessionId};
use crate::record::{EndedBy, State};
use crate::store::{Draft, Filter, Op, Page, Query, Selector, SessionStore, Summary};

async fn page(
    trial: &Trial,
    filter: &Filter,
    after: Option<SessionId>,
    limit: usize,
) -> Verdict<Page> {
    let query = Query { filter: filter.clone(), after, limit, at: trial.now() };
    Ok(trial.handle(1).page(&query).await?)
}

/// Every summary, page by page.
async fn all(trial: &Trial, filter: &Filter, limit: usize) -> Verdict<Vec<Summary>> {
    let mut found = Vec::new();
    let mut after = None;
    for _ in 0..100_000 {
        let page = page(trial, filter, after, limit).await?;
        ensure!(page.sessions.len() <= limit, "{} of {limit}", page.sessions.len());
        ensure!(page.corrupt.is_empty(), "sound records are called corrupt");
        found.extend(page.sessions);
        match page.next {
            Some(next) => {
                ensure!(after.is_none_or(|after| after < next), "paging goes in circles");
                after = Some(next);
            }
            None => return Ok(found),
        }
    }
    Err(Failure::new("paging comes to no end"))
}

fn ids_of(found: &[Summary]) -> Vec<SessionId> {
    found.iter().map(|summary| summary.id).collect()
}

pub(super) async fn pages_are_in_order_and_complete(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let nothing = all(&trial, &Filter::new(), 10).await?;
    ensure!(nothing.is_empty(), "an empty store lists {nothing:?}");
    let (mut everyone, mut of_alice) = (Vec::new(), Vec::new());
    for n in 0..60 {
        if n % 3 == 0 {
            of_alice.push(trial.login("alice").await?);
        } else {
            everyone.push(trial.create(&[]).await?);
        }
    }
    everyone.extend(&of_alice);
    everyone.sort_unstable();
    of_alice.sort_unstable();
    for limit in [1, 7, 20, 60, 61, 1000] {
        let found = ids_of(&all(&trial, &Filter::new(), limit).await?);
        ensure!(found == everyone, "in pages of {limit}: {} of 60, or not in order", found.len());
        let found = ids_of(&all(&trial, &Filter::new().user("alice"), limit).await?);
        ensure!(found == of_alice, "alice's in pages of {limit}: {} of 20", found.len());
    }
    Ok(())
}

pub(super) async fn pages_hold_to_every_filter(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let expired = trial.login("alice").await?;
    trial.clock().advance(TIMEOUTS.idle);
    let early = trial.now();
    let quiet = trial.create(&[]).await?;
    trial.clock().advance(HOUR);
    let member = new_id()?;
    let op = Op::Create {
        realm: Some("shop".into()),
        draft: Draft { label: Some(Some("Firefox".into())), ..draft(&[("n", 1)])? },
        login: Some(super::trial::login("alice", None)),
    };
    trial.committed(member, op).await?;
    let ended = trial.login("alice").await?;
    trial.committed(ended, logout()).await?;
    let by_ending = trial.login("bob").await?;
    trial.store().expire(Selector::user("bob")).await?;
    let old = trial.create(&[]).await?;
    let renewed = sibling_of(old)?;
    trial.committed(old, renew(renewed)).await?;
    let digits = format!("{member:.9}");
    let prefix: IdPrefix = digits.parse()?;
    let now = trial.now();
    let cases: [(Filter, Vec<SessionId>); 15] = [
        (Filter::new(), vec![quiet, member, renewed]),
        (Filter::new().user("alice"), vec![member]),
        (Filter::new().user("carol"), vec![]),
        (Filter::new().realm("shop"), vec![member]),
        (Filter::new().anonymous(), vec![quiet, renewed]),
        (Filter::new().idle_since(now), vec![quiet]),
        (Filter::new().created_before(now), vec![quiet]),
        (Filter::new().created_after(now), vec![member, renewed]),
        (Filter::new().created_after(early), vec![quiet, member, renewed]),
        (Filter::new().except(quiet).except(renewed), vec![member]),
        (Filter::new().prefix(prefix), vec![member]),
        (Filter::new().state(State::Expired), vec![expired]),
        (Filter::new().state(State::Ended), vec![ended, by_ending]),
        (Filter::new().state(State::Superseded), vec![old]),
        (Filter::new().any_state(), vec![expired, quiet, member, ended, by_ending, old, renewed]),
    ];
    for (filter, mut expected) in cases {
        expected.sort_unstable();
        for limit in [1, 100] {
            let found = ids_of(&all(&trial, &filter, limit).await?);
            ensure!(found == expected, "{filter:?}: expected {expected:?}, found {found:?}");
        }
    }
    Ok(())
}

/// What a user has ended is no longer looked at by a login, and is listed all the same.
pub(super) async fn pages_list_what_a_user_has_ended(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let (mut live, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        live.push(trial.login("alice").await?);
        ended.push(trial.login("alice").await?);
        // What is left under the former ID has no user.
        let former = trial.login("alice").await?;
        let new_id = sibling_of(former)?;
        trial.committed(former, renew(new_id)).await?;
        live.push(new_id);
        for id in [trial.login("bob").await?, trial.create(&[]).await?] {
            trial.committed(id, logout()).await?;
        }
    }
    for id in &ended {
        trial.committed(*id, logout()).await?;
    }
    let everything = [live.clone(), ended.clone()].concat();
    let of_alice = || Filter::new().user("alice");
    for (filter, mut expected) in [
        (of_alice(), live),
        (of_alice().state(State::Ended), ended),
        (of_alice().state(State::Superseded), Vec::new()),
        (of_alice().state(State::Ended).state(State::Live), everything.clone()),
        (of_alice().any_state(), everything),
    ] {
        expected.sort_unstable();
        for limit in [3, 100] {
            let found = ids_of(&all(&trial, &filter, limit).await?);
            ensure!(found == expected, "{filter:?}: expected {expected:?}, found {found:?}");
        }
    }
    Ok(())
}

pub(super) async fn pages_tell_what_is_known(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.login("alice").await?;
    let label = Draft { label: Some(Some("Firefox".into())), ..draft(&[("n", 1)])? };
    let record = trial.committed(id, Op::Merge(label)).await?;
    let found = all(&trial, &Filter::new().any_state(), 10).await?;
    ensure!(found.len() == 1, "one session was expected, not {found:?}");
    let summary = &found[0];
    ensure!(
        summary.user.as_deref() == Some("alice")
            && summary.label.as_deref() == Some("Firefox")
            && summary.state == State::Live
            && summary.created_at == trial.now()
            && summary.authenticated_at == Some(trial.now())
            && summary.last_seen_at == trial.now()
            && summary.expires_at == trial.now().saturating_add(TIMEOUTS.idle)
            && summary.size_bytes == record.size_bytes()
            && summary.ended_at.is_none()
            && summary.ended_by.is_none(),
        "live: {summary:?}"
    );
    trial.clock().advance(HOUR);
    trial.store().expire(Selector::user("alice")).await?;
    let ended_at = trial.now();
    trial.clock().advance(MILLI);
    for _ in 0..2 {
        let found = all(&trial, &Filter::new().any_state(), 10).await?;
        ensure!(
            found.len() == 1
                && found[0].state == State::Ended
                && found[0].ended_at == Some(ended_at)
                && found[0].ended_by == Some(EndedBy::Application),
            "ended: {found:?}"
        );
        trial.sweep().await?;
    }
    trial.create(&[]).await?;
    trial.clock().advance(2 * DAY);
    let found = all(&trial, &Filter::new().state(State::Expired), 10).await?;
    ensure!(
        found.len() == 1
            && found[0].ended_by == Some(EndedBy::Timeout)
            && found[0].ended_at == Some(found[0].expires_at),
        "expired: {found:?}"
    );
    Ok(())
}

/// Sessions that live throughout appear, once, while others come and go.
pub(super) async fn pages_are_complete_beside_changes(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let mut stable = Vec::new();
    for _ in 0..50 {
        stable.push(trial.login("alice").await?);
    }
    stable.sort_unstable();
    for round in 0..suite.rounds / 8 {
        let (one, other, merged) = (trial.clone(), trial.clone(), stable.clone());
        let (found, ()) = race_two(
            async move {
                let everyone = all(&one, &Filter::new(), 7).await?;
                let of_alice = all(&one, &Filter::new().user("alice"), 7).await?;
                Ok([everyone, of_alice])
            },
            async move {
                for n in 0..4 {
                    let id = super::trial::new_id()?;
                    let op = super::trial::create_login("alice", None);
                    super::trial::committed(other.commit_on(0, id, op).await?)?;
                    let next = sibling_of(id)?;
                    super::trial::committed(other.commit_on(0, id, renew(next)).await?)?;
                    super::trial::committed(other.commit_on(0, next, logout()).await?)?;
                    let kept = merged[(round as usize + n) % merged.len()];
                    let op = merge(&[("n", u64::from(round))])?;
                    super::trial::committed(other.commit_on(0, kept, op).await?)?;
                }
                Ok(())
            },
        )
        .await?;
        for found in found {
            let ids = ids_of(&found);
            ensure!(ids.is_sorted(), "round {round}: not in order");
            ensure!(ids.windows(2).all(|two| two[0] != two[1]), "round {round}: one appears twice");
            let missing = stable.iter().filter(|id| !ids.contains(id)).count();
            ensure!(missing == 0, "round {round}: {missing} of 50 are missing");
        }
        if round % 16 == 0 {
            trial.clock().advance(super::trial::GRACE);
            trial.store().purge().await?;
            for id in &stable {
                trial.committed(*id, merge(&[("n", 0)])?).await?;
            }
        }
    }
    Ok(())
}

/// One page is one consistent read: a session that is renewed meanwhile is on it, under one ID.
pub(super) async fn pages_see_a_renewal_as_one_step(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let mut id = trial.login("alice").await?;
    for round in 0..suite.rounds {
        let next = sibling_of(id)?;
        let (one, other) = (trial.clone(), trial.clone());
        let (found, _) = race_two(
            async move {
                let everyone = page(&one, &Filter::new(), None, 1000).await?;
                let of_alice = page(&one, &Filter::new().user("alice"), None, 1000).await?;
                Ok([everyone, of_alice])
            },
            async move { super::trial::committed(other.commit_on(0, id, renew(next)).await?) },
        )
        .await?;
        for page in found {
            let ids = ids_of(&page.sessions);
            ensure!(ids == [id] || ids == [next], "round {round}: {} sessions", ids.len());
        }
        id = next;
        if round % 16 == 0 {
            trial.clock().advance(super::trial::GRACE);
            trial.store().purge().await?;
            trial.committed(id, merge(&[("n", 0)])?).await?;
        }
        if trial.now() > super::trial::START.saturating_add(8 * DAY) {
            trial.clock().set(super::trial::START);
        }
    }
    Ok(())
}
