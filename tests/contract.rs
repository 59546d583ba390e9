//! The contract suite, run against every store of this crate.
//!
//! `FASTSESSION_ROUNDS` sets how often each race of a store of this crate is run.
#![allow(clippy::print_stdout, reason = "what random sequences found")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fastsession::testing::contract::{DEFAULT_ROUNDS, Opened, Setup, Suite};
use fastsession::{MemoryStore, Result};

fn rounds(unless_set: u32) -> u32 {
    std::env::var("FASTSESSION_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(unless_set)
}

fn open_memory(setup: &Setup) -> Result<Opened> {
    let store = MemoryStore::builder()
        .clock(setup.clock.clone())
        .sweep_interval(setup.sweep_interval)
        .keep_ended(setup.keep_ended)
        .build()?;
    Ok(Opened::new(store))
}

fastsession::contract_tests!(
    memory,
    suite = super::Suite::new(super::open_memory).rounds(super::rounds(super::DEFAULT_ROUNDS))
);

#[cfg(feature = "redb")]
mod redb_file {
    use std::sync::Arc;

    use fastsession::testing::contract::{Opened, Setup};
    use fastsession::{RedbStore, Result};

    fn open(setup: &Setup, exclusive: bool) -> Result<Opened> {
        // In memory where that can be had: what is raced here is order, not the disk, and thousands
        // of rounds are worth more than their syncs. Lives as long as somebody may open the file.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = Arc::new(dir.expect("a temporary folder"));
        let setup = setup.clone();
        let open = move || {
            let builder = RedbStore::builder(dir.path().join("sessions.redb"))
                .clock(setup.clock.clone())
                .sweep_interval(setup.sweep_interval)
                .keep_ended(setup.keep_ended);
            if exclusive { builder.exclusive() } else { builder }.open()
        };
        let opened = Opened::new(open()?).after_close(open.clone());
        Ok(if exclusive { opened } else { opened.beside(open) })
    }

    pub(super) fn open_shared(setup: &Setup) -> Result<Opened> {
        open(setup, false)
    }

    pub(super) fn open_exclusive(setup: &Setup) -> Result<Opened> {
        open(setup, true)
    }
}

// A round costs a few commits to disk here.
#[cfg(feature = "redb")]
const REDB_ROUNDS: u32 = 200;

#[cfg(feature = "redb")]
fastsession::contract_tests!(
    redb_shared,
    suite =
        super::Suite::new(super::redb_file::open_shared).rounds(super::rounds(super::REDB_ROUNDS))
);

#[cfg(feature = "redb")]
fastsession::contract_tests!(
    redb_exclusive,
    suite = super::Suite::new(super::redb_file::open_exclusive)
        .rounds(super::rounds(super::REDB_ROUNDS))
);

// The store that the broken ones vary passes, so that each is rejected for its fault. Nobody's
// sessions are in it: it is raced no longer than that needs, however long the others are.
fastsession::contract_tests!(
    sound_model,
    suite =
        super::Suite::new(fastsession::testing::broken::sound).rounds(super::rounds(100).min(100))
);

mod broken {
    use super::Suite;
    use fastsession::testing::broken;
    use fastsession::testing::contract::Check;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_broken_store_is_rejected_by_the_check_for_its_fault() {
        for store in broken::ALL {
            let check = Check::named(store.rejected_by()).unwrap();
            // Some faults show in a race only, which a busy machine may spoil for a while.
            let mut rejected = false;
            for _ in 0..5 {
                rejected |= check.run(&Suite::new(*store).rounds(5000)).await.is_err();
                if rejected {
                    break;
                }
            }
            assert!(rejected, "{:?} passed {}", store.name(), check.name());
        }
    }

    /// Random sequences know nothing of these faults, and find them all the same.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn random_sequences_find_broken_stores_and_tell_why_in_a_few_steps() {
        let in_turn = Check::named("model_sequences_end_as_the_model_says").unwrap();
        let at_once = Check::named("model_calls_at_once_are_as_if_in_some_order").unwrap();
        for (name, check) in [
            ("a merge upserts", in_turn),
            ("a renewal leaves no mark", in_turn),
            ("it lives at its deadline", in_turn),
            ("a touch revives", in_turn),
            ("a creation overwrites", in_turn),
            ("commits compare no generation", in_turn),
            ("purging takes marks in grace", in_turn),
            ("an end keeps the data", in_turn),
            ("compare-and-set is two steps", at_once),
            ("a renewal takes two steps", at_once),
            ("a merge writes back the whole record", at_once),
        ] {
            let store = broken::ALL.iter().find(|store| store.name() == name).unwrap();
            // A race is met by chance, and less often where the machine has other work.
            let mut found = None;
            for _ in 0..10 {
                found = check.run(&Suite::new(*store).rounds(20_000)).await.err();
                if found.is_some() {
                    break;
                }
            }
            let Some(failure) = found else { panic!("{name} passed") };
            println!("{name}: {failure}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_report_names_what_failed() {
        let store = broken::ALL.iter().find(|store| store.name() == "a page skips one").unwrap();
        let report = Suite::new(*store).rounds(10).run().await;
        assert!(!report.is_passed());
        assert!(report.to_string().contains(store.rejected_by()), "{report}");
        let failed = report.results().iter().filter(|(_, verdict)| verdict.is_err());
        assert!(failed.clone().all(|(name, _)| name.starts_with("pages_")), "{report}");
    }
}
