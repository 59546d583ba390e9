//! The contract suite, run against every store of this crate.
//!
//! `FASTSESSION_ROUNDS` sets how often each race is run.

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
