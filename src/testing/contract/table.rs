//! The list of all checks, and the macros that make something of it.

use super::{
    Check, bounds, caps, commits, ending, expiring, pages, renewal, sequences, service, sweeping,
    time, touching, transfer,
};

/// Hands the names of all checks, by module, to another macro of this crate.
#[doc(hidden)]
#[macro_export]
macro_rules! __contract_checks {
    ($then:ident $arguments:tt) => {
        $crate::$then! {
            $arguments
            commits:
                rule_03_an_answered_commit_is_seen
                contract_02_every_handle_sees_an_answered_commit
                rule_03_only_create_makes_a_session
                rule_03_create_only_where_there_is_no_record
                rule_03_one_of_two_creations_wins
                rule_03_renewal_to_a_taken_id_is_refused
                rule_03_creation_and_renewal_to_one_id_exclude_each_other
                rule_04_parallel_merges_of_different_keys_survive
                rule_04_the_last_commit_of_a_key_wins
                rule_04_increments_add_up
                rule_04_compare_and_set_compares
                rule_05_data_comes_back_as_it_was
                rule_05_metadata_comes_back_as_it_was
                rule_07_what_was_not_loaded_is_merged_in_its_realm_only
                ;
            bounds:
                rule_19_data_past_its_bound_is_refused
                rule_19_data_over_a_lowered_bound_may_shrink
                rule_19_long_names_are_refused
                ;
            ending:
                rule_07_logout_wins_over_late_merge
                rule_07_logout_wins_over_late_compare_and_set
                rule_07_logout_wins_over_late_touch
                rule_07_logout_wins_over_late_renewal
                rule_07_expiring_ids_wins_over_what_is_late
                rule_07_expiring_a_user_wins_over_what_is_late
                rule_07_expiring_everyone_wins_over_what_is_late
                rule_07_purge_wins_over_what_is_late
                rule_07_late_commits_are_told_why
                rule_09_an_answered_end_is_seen_by_every_later_load
                rule_12_ended_sessions_lose_their_data_at_once
                rule_12_an_ending_of_many_takes_their_data_once_swept
                rule_12_headers_are_kept_for_a_while
                ;
            renewal:
                rule_08_renewal_carries_everything_over
                rule_08_the_old_id_is_dead_at_once
                rule_08_the_old_id_says_so_within_grace
                rule_08_one_of_two_renewals_wins
                rule_08_renewal_loses_no_merge
                rule_08_renewal_is_one_step
                rule_08_login_starts_afresh
                rule_08_login_drops_what_another_user_left
                rule_08_the_absolute_deadline_is_moved_by_login_only
                ;
            expiring:
                rule_11_sessions_of_a_user_are_listed
                rule_11_a_user_is_ended_and_nobody_else
                rule_11_everyone_is_ended
                rule_11_an_ending_of_many_refuses_commits
                rule_11_one_session_is_spared
                rule_11_sparing_revives_nothing
                rule_11_the_spared_session_is_never_absent
                rule_11_racing_logins_are_before_or_after
                rule_11_sweeping_beside_endings_revives_nothing
                rule_11_ids_are_counted
                rule_11_filters_are_checked_again
                rule_11_filters_spare_who_signs_in_meanwhile
                rule_11_filters_end_what_matches
                ;
            caps:
                rule_11_a_cap_refuses_the_new_one
                rule_11_a_cap_ends_the_oldest
                rule_11_caps_hold_under_concurrent_logins
                rule_11_caps_leave_a_concurrent_logout_alone
                rule_11_a_cap_holds_beside_many_ended_sessions
                rule_11_a_cap_comes_to_hold_for_a_crowd
                ;
            time:
                rule_13_now_equal_idle_deadline_is_over
                rule_13_now_equal_absolute_deadline_is_over
                rule_13_activity_moves_the_idle_deadline_only
                rule_13_a_shorter_configured_timeout_wins
                rule_13_a_longer_configured_timeout_extends_nothing
                rule_13_a_remembered_session_has_its_own_timeouts
                rule_15_no_instant_panics
                rule_15_a_clock_stepped_back_ends_nothing
                ;
            touching:
                rule_14_a_touch_moves_last_seen_only
                rule_14_a_touch_never_runs_backwards
                rule_14_a_touch_revives_nothing
                rule_14_a_touch_keeps_to_configured_timeouts
                rule_14_a_touch_loses_no_concurrent_merge
                rule_14_what_is_merged_without_a_layer_is_no_activity
                rule_14_idle_filters_allow_for_the_touch_interval
                ;
            sweeping:
                rule_15_the_store_sweeps_by_itself
                rule_15_the_store_sweeps_marks_and_headers
                rule_15_active_sessions_are_not_swept
                rule_15_a_shortened_session_is_swept
                rule_15_a_clock_stepped_forth_and_back_erases_nothing
                purge_removes_exactly_what_is_over
                purge_leaves_marks_in_grace
                purge_never_ends_a_live_session
                purge_of_many_takes_exactly_what_is_over
                purge_comes_to_an_end
                purge_beside_traffic_takes_nothing_live
                ;
            pages:
                pages_are_in_order_and_complete
                pages_hold_to_every_filter
                pages_list_what_a_user_has_ended
                pages_tell_what_is_known
                pages_are_complete_beside_changes
                pages_see_a_renewal_as_one_step
                ;
            transfer:
                exported_records_are_whole_and_in_order
                imported_records_come_back_as_they_were
                an_import_may_be_repeated
                rule_07_an_import_brings_nothing_back
                exported_sessions_that_a_generation_ended_stay_ended
                removing_by_id_takes_only_what_is_over
                keys_of_another_ring_are_verified
                ;
            service:
                keys_rotate_and_retire
                keys_are_not_lost_to_a_mistake
                keys_rotated_at_once_are_all_kept
                keys_verify_for_the_longest_idle_timeout
                stats_count_records
                close_keeps_touches_and_answers
                close_is_final
                contract_08_an_abandoned_call_harms_nothing
                ;
            sequences:
                model_sequences_end_as_the_model_says
                model_calls_at_once_are_as_if_in_some_order
                ;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract_table {
    (() $($module:ident: $($name:ident)* ;)*) => {
        pub(super) const CHECKS: &[Check] = &[$($(
            Check { name: stringify!($name), body: |suite| Box::pin($module::$name(suite)) },
        )*)*];
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract_test_module {
    (($suite:expr) $($module:ident: $($name:ident)* ;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let check = $crate::testing::contract::Check::named(stringify!($name));
                let verdict = match check {
                    Some(check) => check.run(&$suite).await,
                    None => Ok(()),
                };
                if let Err(failure) = verdict {
                    panic!("{failure}");
                }
            }
        )*)*
    };
}

/// Makes a module with one `#[tokio::test]` for each check of the
/// [contract suite](crate::testing::contract), so that a failure has a name.
///
/// The second argument is a [`Factory`](crate::testing::contract::Factory), seen from inside the
/// module, or with `suite =` a [`Suite`](crate::testing::contract::Suite). The calling crate needs
/// tokio with the features `macros`, `rt-multi-thread` and `time`.
///
/// ```
/// use fastsession::MemoryStore;
/// use fastsession::testing::contract::{Opened, Setup, Suite};
///
/// fn open(setup: &Setup) -> fastsession::Result<Opened> {
///     Ok(Opened::new(MemoryStore::builder().clock(setup.clock.clone()).build()?))
/// }
///
/// fastsession::contract_tests!(memory, super::open);
/// fastsession::contract_tests!(briefly, suite = super::Suite::new(super::open).rounds(10));
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! contract_tests {
    ($name:ident, suite = $suite:expr) => {
        mod $name {
            $crate::__contract_checks! { __contract_test_module ($suite) }
        }
    };
    ($name:ident, $factory:expr) => {
        $crate::contract_tests!($name, suite = $crate::testing::contract::Suite::new($factory));
    };
}

crate::__contract_checks! { __contract_table () }
