//! Stores that break one rule each, and that the suite must reject.
//!
//! A suite that lets one of these pass is no proof of anything. They are variations of one plain
//! store, which without a fault passes every check.

use crate::error::Result;
use crate::testing::contract::{Factory, Opened, Setup};

mod faults;
mod model;
mod transfer;

use faults::Fault;
use model::Model;

/// A store that breaks a rule.
#[derive(Clone, Copy, Debug)]
pub struct Broken {
    name: &'static str,
    rejected_by: &'static str,
    fault: Fault,
}

impl Broken {
    /// What it does.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The check that must find it.
    pub fn rejected_by(&self) -> &'static str {
        self.rejected_by
    }
}

impl Factory for Broken {
    fn open(&self, setup: &Setup) -> Result<Opened> {
        open(setup, self.fault)
    }
}

/// The same store without a fault.
pub fn sound(setup: &Setup) -> Result<Opened> {
    open(setup, Fault::None)
}

fn open(setup: &Setup, fault: Fault) -> Result<Opened> {
    let store = Model::new(setup, fault)?;
    let (beside, again) = (store.clone(), store.clone());
    Ok(Opened::new(store)
        .beside(move || Ok(beside.another_handle()))
        .after_close(move || Ok(again.another_handle())))
}

const fn broken(name: &'static str, fault: Fault, rejected_by: &'static str) -> Broken {
    Broken { name, rejected_by, fault }
}

/// Every broken store.
pub const ALL: &[Broken] = &[
    broken("a merge upserts", Fault::MergeUpserts, "rule_07_logout_wins_over_late_merge"),
    broken("a merge makes a session", Fault::MergeUpserts, "rule_03_only_create_makes_a_session"),
    broken("a renewal takes two steps", Fault::RenewInTwoSteps, "rule_08_renewal_loses_no_merge"),
    broken("two renewals both win", Fault::RenewInTwoSteps, "rule_08_one_of_two_renewals_wins"),
    broken("a renewal deletes first", Fault::RenewDeletesFirst, "rule_08_renewal_is_one_step"),
    broken(
        "a renewal leaves no mark",
        Fault::RenewDeletesFirst,
        "rule_08_the_old_id_says_so_within_grace",
    ),
    broken(
        "it answers before it commits",
        Fault::AnswersBeforeCommit,
        "rule_03_an_answered_commit_is_seen",
    ),
    broken(
        "it answers before it ends",
        Fault::AnswersBeforeEnd,
        "rule_09_an_answered_end_is_seen_by_every_later_load",
    ),
    broken(
        "a merge writes back the whole record",
        Fault::MergeRewritesRecord,
        "rule_04_parallel_merges_of_different_keys_survive",
    ),
    broken(
        "it lives at its deadline",
        Fault::DeadlineTooLate,
        "rule_13_now_equal_idle_deadline_is_over",
    ),
    broken("a touch revives", Fault::TouchRevives, "rule_14_a_touch_revives_nothing"),
    broken("a late touch revives", Fault::TouchRevives, "rule_07_logout_wins_over_late_touch"),
    broken(
        "a touch rewrites data",
        Fault::TouchRewritesData,
        "rule_14_a_touch_loses_no_concurrent_merge",
    ),
    broken(
        "a creation overwrites",
        Fault::CreateOverwrites,
        "rule_03_create_only_where_there_is_no_record",
    ),
    broken(
        "compare-and-set is two steps",
        Fault::CompareAndSetInTwoSteps,
        "rule_04_increments_add_up",
    ),
    broken(
        "commits compare no generation",
        Fault::CommitIgnoresGeneration,
        "rule_11_an_ending_of_many_refuses_commits",
    ),
    broken("purging ends live sessions", Fault::PurgeEndsLive, "purge_never_ends_a_live_session"),
    broken("purging takes marks in grace", Fault::PurgeTakesMarks, "purge_leaves_marks_in_grace"),
    broken("a page skips one", Fault::PageSkips, "pages_are_in_order_and_complete"),
    broken("a page repeats one", Fault::PageRepeats, "pages_are_in_order_and_complete"),
    broken(
        "absence is concluded from an old state",
        Fault::AbsenceFromOldState,
        "contract_02_every_handle_sees_an_answered_commit",
    ),
    broken(
        "an end keeps the data",
        Fault::EndKeepsData,
        "rule_12_ended_sessions_lose_their_data_at_once",
    ),
    broken(
        "filters are not checked again",
        Fault::EndIgnoresFilter,
        "rule_11_filters_are_checked_again",
    ),
    broken(
        "it sweeps at the deadline",
        Fault::SweepsAtDeadline,
        "rule_15_the_store_sweeps_by_itself",
    ),
    broken(
        "keys are changed in two steps",
        Fault::KeysInTwoSteps,
        "keys_rotated_at_once_are_all_kept",
    ),
    broken(
        "an export forgets endings of many",
        Fault::ExportForgetsEndings,
        "exported_sessions_that_a_generation_ended_stay_ended",
    ),
    broken(
        "an import overwrites",
        Fault::ImportOverwrites,
        "rule_07_an_import_brings_nothing_back",
    ),
    broken(
        "ended sessions hide live ones from a cap",
        Fault::CapLooksAtEnded,
        "rule_11_a_cap_holds_beside_many_ended_sessions",
    ),
    broken(
        "a merge reaches a session of another realm",
        Fault::MergeIgnoresRealm,
        "rule_07_what_was_not_loaded_is_merged_in_its_realm_only",
    ),
    broken(
        "what a job merges is activity",
        Fault::JobIsActivity,
        "rule_14_what_is_merged_without_a_layer_is_no_activity",
    ),
    broken(
        "removing by ID ends live sessions",
        Fault::RemoveEndsLive,
        "removing_by_id_takes_only_what_is_over",
    ),
];
