//! Measurements for the [`metrics`](https://docs.rs/metrics) facade, with the feature `metrics`.
//! Without it, nothing.
//! Names and meanings are in `docs/operations.md`.

#![cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nobody measures"))]

use crate::origin::Origin;
use crate::store::Op;

pub(crate) fn concluded(origin: Origin) {
    #[cfg(feature = "metrics")]
    metrics::counter!("fastsession_requests_total", "origin" => origin.as_str()).increment(1);
}

pub(crate) fn dropped() {
    #[cfg(feature = "metrics")]
    metrics::counter!("fastsession_changes_dropped_total").increment(1);
}

pub(crate) fn asked(op: &Op) {
    #[cfg(feature = "metrics")]
    {
        let name = match op {
            Op::Create { .. } => "create",
            Op::Merge(_) => "merge",
            Op::CompareAndSet { .. } => "update",
            Op::Renew { .. } => "renew",
            Op::End { .. } => "end",
        };
        metrics::counter!("fastsession_commits_total", "op" => name).increment(1);
    }
}

#[cfg(feature = "redb")]
pub(crate) fn batch(began: std::time::Instant, jobs: usize, succeeded: bool) {
    #[cfg(feature = "metrics")]
    {
        metrics::histogram!("fastsession_batch_seconds").record(began.elapsed());
        #[allow(clippy::cast_precision_loss, reason = "far below 2⁵²")]
        metrics::histogram!("fastsession_batch_jobs").record(jobs as f64);
        if !succeeded {
            metrics::counter!("fastsession_batch_failures_total").increment(1);
        }
    }
}

#[cfg(feature = "redb")]
pub(crate) fn swept(removed: u64, file: &std::path::Path) {
    #[cfg(feature = "metrics")]
    {
        metrics::counter!("fastsession_swept_total").increment(removed);
        if let Ok(file) = std::fs::metadata(file) {
            #[allow(clippy::cast_precision_loss, reason = "a file of 2⁵² bytes is not")]
            metrics::gauge!("fastsession_file_bytes").set(file.len() as f64);
        }
    }
}
