//! The contract suite on one node and on a cluster.

use std::sync::Arc;

use fastsession::testing::contract::{Opened, Setup, Suite};
use fastsession::{MemoryStore, RedisStore, Result};

use crate::server;

/// A round costs a few round trips, in a cluster one to each partition for what concerns many.
const NODE_ROUNDS: u32 = 100;
const CLUSTER_ROUNDS: u32 = 20;

/// `FASTSESSION_ROUNDS`, or the part of it that takes about as long in a cluster.
fn rounds(unless_set: u32) -> u32 {
    let rounds = std::env::var("FASTSESSION_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse::<u32>().ok());
    rounds.map_or(unless_set, |rounds| (rounds * unless_set / NODE_ROUNDS).max(1))
}

/// Fresh sessions on the server at `url`, which `server` keeps running.
fn open<T: Send + Sync + 'static>(server: Arc<T>, url: String, setup: &Setup) -> Result<Opened> {
    let (setup, prefix) = (setup.clone(), server::prefix());
    let open = move || {
        let _running = &server;
        RedisStore::builder(&url)
            .prefix(&*prefix)
            .clock(setup.clock.clone())
            .sweep_interval(setup.sweep_interval)
            .keep_ended(setup.keep_ended)
            .connect()
    };
    Ok(Opened::new(open()?).beside(open.clone()).after_close(open))
}

/// So that a check has something to run against where there is no server.
fn stand_in(setup: &Setup) -> Result<Opened> {
    let store = MemoryStore::builder()
        .clock(setup.clock.clone())
        .sweep_interval(setup.sweep_interval)
        .keep_ended(setup.keep_ended)
        .build()?;
    Ok(Opened::new(store))
}

pub fn open_node(setup: &Setup) -> Result<Opened> {
    if !server::is_installed() {
        return stand_in(setup);
    }
    let node = server::shared_node();
    let url = node.url();
    open(node, url, setup)
}

pub fn open_cluster(setup: &Setup) -> Result<Opened> {
    if !server::is_installed() {
        return stand_in(setup);
    }
    let cluster = server::shared_cluster();
    let url = cluster.url();
    Ok(open(cluster, url, setup)?.keeps_shards())
}

fastsession::contract_tests!(
    node,
    suite = super::Suite::new(super::open_node).rounds(super::rounds(super::NODE_ROUNDS))
);

fastsession::contract_tests!(
    cluster,
    suite = super::Suite::new(super::open_cluster).rounds(super::rounds(super::CLUSTER_ROUNDS))
);
