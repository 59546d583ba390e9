//! The redb store on a disk that fails, fills up and loses power.
//!
//! `FASTSESSION_FAULTS` is how many power cuts, and how many faults, each mode is put through. A
//! failure prints the scenario that repeats it; the order in which threads reach the disk is not
//! the seed's to decide, so that what is left of a cut disk is kept as well.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::print_stdout, reason = "tables, and what did not run")]
#![allow(clippy::cast_possible_truncation, reason = "a disk in memory is small")]

mod app;
mod damage;
mod disk;
mod filesystems;
mod helper;
mod interval;
mod ledger;
mod model;
#[path = "../common/mount.rs"]
mod mount;
mod processes;
mod random;
mod reopening;
mod run;
mod table;

use disk::Plan;
use random::Random;
use run::{PLANS, Scenario, checked, quieten_engine};
use table::{Table, grouped};

const ROUNDS: u64 = 24;
const CUTS_PER_RUN: usize = 25;

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
    let mut seed = first_seed();
    while table.events < wanted() {
        let scenario = Scenario { seed, exclusive, rounds: ROUNDS, neighbour: false };
        let run = run::power_cuts(scenario, CUTS_PER_RUN, &mut table);
        if let Err(why) = checked(scenario, run) {
            table.print("Power cuts up to the failure", &grouped(table.events));
            panic!("{scenario:?}: {why}");
        }
        seed += 1;
    }
    report(&table, ["Power cuts", "cuts"], exclusive, seed);
}

fn faults(exclusive: bool) {
    quieten_engine();
    let mut table = Table::default();
    let mut seed = first_seed();
    while table.events < wanted() {
        // By the seed alone, so that it repeats all of it whichever was the first.
        let number = seed - 1;
        let neighbour = !exclusive && number.is_multiple_of(3);
        let scenario = Scenario { seed, exclusive, rounds: ROUNDS, neighbour };
        let calls = checked(scenario, run::calls(scenario));
        let (fault, lasting) = PLANS[(number % PLANS.len() as u64) as usize];
        let plan = Plan { from: Random::new(seed).below(calls), fault, lasting };
        if let Err(why) = checked(scenario, run::fault(scenario, plan, &mut table)) {
            table.print("Faults up to the failure", &grouped(table.events));
            panic!("{plan:?}, {scenario:?}: {why}");
        }
        seed += 1;
    }
    report(&table, ["I/O faults", "runs that met their fault"], exclusive, seed);
}

fn report(table: &Table, [what, events]: [&str; 2], exclusive: bool, end: u64) {
    let mode = if exclusive { "exclusive" } else { "shared" };
    let seeds = format!("Seeds {} to {}", first_seed(), grouped(end - 1));
    let events = format!("{seeds}: {} {events}", grouped(table.events));
    table.print(&format!("{what}, {mode} mode"), &events);
    assert_eq!(table.faults(), 0);
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
