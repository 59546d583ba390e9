//! Rules 3 to 5: commits are atomic, durable when answered, and keep the data as it is.

use super::trial::{
    Racer, committed, compare_and_set, create, draft, ensure, is_committed, merge, merge_unseen,
    new_id, number, number_of, race, race_two, racer, renew,
};
use super::{Failure, Suite, Verdict};
use crate::record::{Absence, Data};
use crate::store::{Draft, Loaded, Op, Outcome};

pub(super) async fn rule_03_an_answered_commit_is_seen(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds.min(200) {
        let id = trial.create(&[("n", 0)]).await?;
        ensure!(number_of(&trial.live(id).await?, "n") == Some(0), "a created session is not seen");
        let answered = trial.committed(id, merge(&[("n", u64::from(round))])?).await?;
        let loaded = trial.live(id).await?;
        ensure!(loaded.data() == answered.data(), "round {round}: an answered merge is not seen");
        ensure!(loaded.version() == 2, "the second commit is version {}", loaded.version());
    }
    Ok(())
}

pub(super) async fn contract_02_every_handle_sees_an_answered_commit(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for _ in 0..suite.rounds.min(200) {
        // Read through each handle first, so that a state is at hand to conclude from wrongly.
        let id = new_id()?;
        for store in trial.handles() {
            let loaded = store.load(&id, &trial.access()).await?;
            ensure!(matches!(loaded, Loaded::Absent(Absence::NotFound)), "found before created");
        }
        trial.committed(id, create(draft(&[("n", 1)])?)).await?;
        for store in trial.handles() {
            let loaded = store.load(&id, &trial.access()).await?;
            ensure!(
                matches!(loaded, Loaded::Live(_)),
                "absence was concluded from a state older than the call: {loaded:?}"
            );
        }
    }
    Ok(())
}

pub(super) async fn rule_03_only_create_makes_a_session(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let ops = [
        merge(&[("n", 1)])?,
        merge_unseen(None, &[("n", 1)])?,
        compare_and_set("n", None, 1),
        renew(new_id()?),
        super::trial::logout(),
    ];
    for op in ops {
        let id = new_id()?;
        let outcome = trial.commit(id, op.clone()).await?;
        ensure!(
            matches!(outcome, Outcome::Absent(Absence::NotFound)),
            "{op:?} of nothing was answered {outcome:?}"
        );
        ensure!(trial.record(id).await?.is_none(), "{op:?} of nothing left a record");
    }
    Ok(())
}

pub(super) async fn rule_03_create_only_where_there_is_no_record(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("mine", 1)]).await?;
    let again = trial.commit(id, create(draft(&[("theirs", 2)])?)).await?;
    ensure!(matches!(again, Outcome::Exists), "creating over a live session: {again:?}");
    let record = trial.live(id).await?;
    ensure!(
        number_of(&record, "mine") == Some(1) && record.data().get("theirs").is_none(),
        "two sessions were merged into one"
    );
    trial.committed(id, super::trial::logout()).await?;
    let again = trial.commit(id, create(Draft::default())).await?;
    ensure!(matches!(again, Outcome::Exists), "creating over an ended session: {again:?}");
    ensure!(!trial.is_live(id).await?, "creating over an ended session revived it");
    Ok(())
}

pub(super) async fn rule_03_one_of_two_creations_wins(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = new_id()?;
        let racers = (0..3_usize).map(|n| {
            let trial = trial.clone();
            racer(async move {
                let op = create(draft(&[("n", n as u64)])?);
                Ok(is_committed(&trial.commit_on(n, id, op).await?))
            })
        });
        let won = race(racers.collect()).await?;
        ensure!(won.iter().filter(|won| **won).count() == 1, "round {round}: {won:?} were created");
        let winner = won.iter().position(|won| *won).map(|n| n as u64);
        let stored = trial.record(id).await?.and_then(|record| number_of(&record, "n"));
        ensure!(stored == winner, "round {round}: {winner:?} won, {stored:?} is stored");
    }
    Ok(())
}

pub(super) async fn rule_03_renewal_to_a_taken_id_is_refused(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let old = trial.create(&[("old", 1)]).await?;
    let taken = trial.target(old, true)?;
    trial.committed(taken, create(draft(&[("taken", 2)])?)).await?;
    for target in [taken, old] {
        let outcome = trial.commit(old, renew(target)).await?;
        ensure!(matches!(outcome, Outcome::Exists), "renewal to a taken ID: {outcome:?}");
    }
    ensure!(number_of(&trial.live(old).await?, "old") == Some(1), "the renewed one changed");
    ensure!(number_of(&trial.live(taken).await?, "taken") == Some(2), "the other one changed");
    Ok(())
}

pub(super) async fn rule_03_creation_and_renewal_to_one_id_exclude_each_other(
    suite: Suite,
) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let old = trial.create(&[("renewed", 1)]).await?;
        let target = trial.target(old, round % 2 == 1)?;
        let (one, other) = (trial.clone(), trial.clone());
        let (renewed, created) = race_two(
            async move { Ok(is_committed(&one.commit_on(0, old, renew(target)).await?)) },
            async move {
                let op = create(draft(&[("created", 1)])?);
                Ok(is_committed(&other.commit_on(1, target, op).await?))
            },
        )
        .await?;
        ensure!(renewed != created, "round {round}: renewed {renewed}, created {created}");
        let record = trial.live(target).await?;
        let key = if renewed { "renewed" } else { "created" };
        ensure!(
            record.data().iter().map(|(key, _)| key).eq([key]),
            "round {round}: the session at the contested ID is not the winner's"
        );
        ensure!(trial.is_live(old).await? != renewed, "round {round}: the loser was not kept");
    }
    Ok(())
}

pub(super) async fn rule_04_parallel_merges_of_different_keys_survive(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[("before", 0)]).await?;
        let racers = ["a", "b", "c"].into_iter().enumerate().map(|(n, key)| {
            let trial = trial.clone();
            racer(async move { committed(trial.commit_on(n, id, merge(&[(key, 1)])?).await?) })
        });
        race(racers.collect()).await?;
        let record = trial.record(id).await?.ok_or_else(|| Failure::new("it is gone"))?;
        let keys: Vec<_> = record.data().iter().map(|(key, _)| key).collect();
        ensure!(keys == ["a", "b", "before", "c"], "round {round}: only {keys:?} survived");
        ensure!(record.version() == 4, "4 commits made version {}", record.version());
    }
    Ok(())
}

pub(super) async fn rule_04_the_last_commit_of_a_key_wins(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    for round in 0..suite.rounds {
        let id = trial.create(&[]).await?;
        let racers = (0..3_usize).map(|n| {
            let trial = trial.clone();
            racer(async move {
                let op = merge(&[("k", n as u64)])?;
                Ok((committed(trial.commit_on(n, id, op).await?)?.version(), n as u64))
            })
        });
        let last = race(racers.collect()).await?.into_iter().max().map(|(_, value)| value);
        let stored = trial.record(id).await?.and_then(|record| number_of(&record, "k"));
        ensure!(stored == last, "round {round}: {last:?} was committed last, {stored:?} is stored");
    }
    Ok(())
}

pub(super) async fn rule_04_increments_add_up(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("n", 0)]).await?;
    let each = u64::from(suite.rounds / 4).max(10);
    let racers = (0..4_usize).map(|n| {
        let trial = trial.clone();
        let run: Racer<()> = racer(async move {
            let mut seen = 0;
            for _ in 0..each {
                loop {
                    let op = compare_and_set("n", Some(seen), seen + 1);
                    match trial.commit_on(n, id, op).await? {
                        Outcome::Committed(record) => {
                            let answer = number_of(&record, "n");
                            ensure!(answer == Some(seen + 1), "set {}, got {answer:?}", seen + 1);
                            seen += 1;
                            break;
                        }
                        Outcome::Changed(record) => {
                            let current = number_of(&record, "n").unwrap_or(seen);
                            ensure!(current != seen, "refused though the value was the expected");
                            seen = current;
                        }
                        other => return Err(Failure::new(format!("{other:?}"))),
                    }
                }
            }
            Ok(())
        });
        run
    });
    race(racers.collect()).await?;
    // Not a load, which may lag behind what another handle was answered.
    let sum = trial.record(id).await?.and_then(|record| number_of(&record, "n"));
    ensure!(sum == Some(4 * each), "{} increments add up to {sum:?}", 4 * each);
    Ok(())
}

pub(super) async fn rule_04_compare_and_set_compares(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = trial.create(&[("n", 1)]).await?;
    for (key, expected) in [("n", Some(2)), ("n", None), ("other", Some(1))] {
        match trial.commit(id, compare_and_set(key, expected, 9)).await? {
            Outcome::Changed(record) => {
                let current = number_of(&record, "n");
                ensure!(current == Some(1), "the current record was answered with {current:?}");
            }
            other => return Err(Failure::new(format!("{key} is not {expected:?}: {other:?}"))),
        }
    }
    let set = trial.committed(id, compare_and_set("other", None, 5)).await?;
    ensure!(number_of(&set, "n") == Some(1), "another key was lost");
    let removal =
        Op::CompareAndSet { key: "n".into(), expected: Some(number(1).into()), value: None };
    let removed = trial.committed(id, removal).await?;
    ensure!(removed.data().get("n").is_none(), "the key was not removed");
    ensure!(number_of(&trial.live(id).await?, "other") == Some(5), "another key was lost");
    Ok(())
}

pub(super) async fn rule_05_data_comes_back_as_it_was(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let longest = "ü".repeat(128);
    let all_bytes: Vec<u8> = (0..=255).collect();
    let (zeros, ones) = (vec![0; 20_000], vec![0xff; 20_000]);
    let values: [(&str, &[u8]); 6] = [
        ("", b"no name"),
        ("a", b""),
        ("b\0\n", &all_bytes),
        ("c", &zeros),
        ("d", &ones),
        (&longest, b"longest name"),
    ];
    let mut all = Draft::default();
    for (key, value) in values {
        all.changes.set(key, value.to_vec())?;
    }
    let id = new_id()?;
    trial.committed(id, create(all.clone())).await?;
    let expected = all.changes.apply(Data::EMPTY);
    ensure!(trial.live(id).await?.data().as_bytes() == expected, "created, not the same data");

    let mut changed = Draft::default();
    changed.changes.remove("a");
    changed.changes.remove("missing");
    changed.changes.set("c", b"shorter".to_vec())?;
    trial.committed(id, Op::Merge(changed.clone())).await?;
    let before = trial.record(id).await?.ok_or_else(|| Failure::new("it is gone"))?;
    all.changes.remove("a");
    all.changes.set("c", b"shorter".to_vec())?;
    let mut expected = Draft::default();
    for (key, value) in all.changes.iter().filter_map(|(key, value)| Some((key, value?))) {
        expected.changes.set(key, value.to_vec())?;
    }
    let expected = expected.changes.apply(Data::EMPTY);
    ensure!(before.data().as_bytes() == expected, "merged, not the same data");

    let mut cleared = draft(&[("only", 1)])?;
    cleared.changes.clear();
    trial.committed(id, Op::Merge(cleared)).await?;
    ensure!(trial.live(id).await?.data().is_empty(), "cleared, but not empty");
    Ok(())
}

pub(super) async fn rule_05_metadata_comes_back_as_it_was(suite: Suite) -> Verdict {
    let trial = suite.trial()?;
    let id = new_id()?;
    let (user, label, realm) = ("ü".repeat(512), "l".repeat(256), "r".repeat(64));
    let op = Op::Create {
        realm: Some((*realm).into()),
        draft: Draft { label: Some(Some((*label).into())), ..draft(&[("n", 1)])? },
        login: Some(super::trial::login(&user, None)),
    };
    let answered = trial.committed(id, op).await?;
    let record = trial.live(id).await?;
    ensure!(record.header() == answered.header(), "loaded otherwise than answered");
    ensure!(
        (record.user(), record.label(), record.realm())
            == (Some(&*user), Some(&*label), Some(&*realm)),
        "user, label or realm are not as they were: {record:?}"
    );
    let now = trial.now();
    ensure!(
        record.created_at() == now
            && record.authenticated_at() == Some(now)
            && record.last_seen_at() == now
            && record.version() == 1,
        "instants or version of a new session are wrong: {record:?}"
    );
    let no_label = Op::Merge(Draft { label: Some(None), ..Draft::default() });
    let record = trial.committed(id, no_label).await?;
    ensure!(record.label().is_none() && record.user() == Some(&*user), "only the label goes");
    Ok(())
}

pub(super) async fn rule_07_what_was_not_loaded_is_merged_in_its_realm_only(
    suite: Suite,
) -> Verdict {
    let trial = suite.trial()?;
    for realm in [None, Some("admin")] {
        let id = new_id()?;
        let draft = draft(&[("n", 1), ("m", 1)])?;
        trial
            .committed(id, Op::Create { realm: realm.map(Into::into), draft, login: None })
            .await?;
        for other in [None, Some("admin"), Some("shop")].into_iter().filter(|other| *other != realm)
        {
            let outcome = trial.commit(id, merge_unseen(other, &[("n", 2)])?).await?;
            ensure!(
                matches!(outcome, Outcome::Absent(Absence::NotFound)),
                "merged for {other:?} into a session of {realm:?}: {outcome:?}"
            );
            ensure!(trial.live(id).await?.version() == 1, "changed for {other:?}");
        }
        let record = trial.committed(id, merge_unseen(realm, &[("n", 3)])?).await?;
        ensure!(
            (number_of(&record, "n"), number_of(&record, "m")) == (Some(3), Some(1)),
            "not merged key by key"
        );
        trial.committed(id, super::trial::logout()).await?;
        let outcome = trial.commit(id, merge_unseen(realm, &[("n", 4)])?).await?;
        ensure!(matches!(outcome, Outcome::Absent(Absence::Ended { .. })), "{outcome:?}");
        let left = trial.record(id).await?.ok_or_else(|| Failure::new("its mark is gone"))?;
        ensure!(left.data().is_empty(), "an ended session has data again");
    }
    Ok(())
}
