//! The redb store on a disk that fails, fills up and loses power.
//!
//! `FASTSESSION_FAULTS` is how many power cuts, and how many faults, each mode is put through. A
//! failure prints the scenario that repeats it; the order in which threads reach the disk is not
//! the seed's to decide, so that what is left of a cut disk is kept as well.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::cast_possible_truncation, reason = "a disk in memory is small")]

mod disk;
mod ledger;
mod model;
mod random;
mod reopening;
mod run;

use run::{PLANS, Scenario, Table, checked};

const ROUNDS: u64 = 24;
const CUTS_PER_RUN: u64 = 25;

fn wanted() -> u64 {
    let set = std::env::var("FASTSESSION_FAULTS").ok().and_then(|count| count.parse().ok());
    set.unwrap_or(150)
}

fn first_seed() -> u64 {
    let set = std::env::var("FASTSESSION_FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    set.unwrap_or(1)
}

fn power_cuts(exclusive: bool) {
    let mut table = Table::default();
    for seed in first_seed().. {
        let scenario = Scenario { seed, exclusive, rounds: ROUNDS };
        let run = run::power_cuts(scenario, CUTS_PER_RUN as usize);
        table.merge(checked("a power cut", scenario, run));
        if (seed - first_seed() + 1) * CUTS_PER_RUN >= wanted() {
            break;
        }
    }
    table.print(if exclusive { "power cuts, exclusive" } else { "power cuts, shared" });
}

fn faults(exclusive: bool) {
    let mut table = Table::default();
    for number in 0..wanted() {
        let seed = first_seed() + number;
        let scenario = Scenario { seed, exclusive, rounds: ROUNDS };
        let calls = checked("no fault", scenario, async { Ok(run::calls(scenario).await) });
        let (fault, lasting) = PLANS[(number % PLANS.len() as u64) as usize];
        let from = random::Random::new(seed).below(calls);
        let plan = disk::Plan { from, fault, lasting };
        table.merge(checked(&format!("{plan:?}"), scenario, run::fault(scenario, plan)));
    }
    table.print(if exclusive { "faults, exclusive" } else { "faults, shared" });
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_in_shared_mode() {
    power_cuts(false);
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_in_exclusive_mode() {
    power_cuts(true);
}

#[test]
fn a_failing_call_loses_nothing_acknowledged_in_shared_mode() {
    faults(false);
}

#[test]
fn a_failing_call_loses_nothing_acknowledged_in_exclusive_mode() {
    faults(true);
}
