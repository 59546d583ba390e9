//! Measurements for the [`metrics`](https://docs.rs/metrics) facade, with the feature `metrics`.
//! Without it, nothing.
//! Names and meanings are in `docs/operations.md`.

#![cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nobody measures"))]

#[cfg(feature = "metrics")]
use crate::error::Result;
use crate::origin::Origin;
use crate::store::Answer;

pub(crate) fn concluded(origin: Origin) {
    #[cfg(feature = "metrics")]
    metrics::counter!("fastsession_requests_total", "origin" => origin.as_str()).increment(1);
}

pub(crate) fn dropped() {
    #[cfg(feature = "metrics")]
    metrics::counter!("fastsession_changes_dropped_total").increment(1);
}

pub(crate) fn asked(op: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("fastsession_commits_total", "op" => op).increment(1);
}

/// Takes the time until `answer` is there.
#[cfg(not(feature = "metrics"))]
pub(crate) fn timed<T>(answer: Answer<T>) -> Answer<T> {
    answer
}

/// Takes the time until `answer` is there.
#[cfg(feature = "metrics")]
pub(crate) fn timed<T: Send + 'static>(answer: Answer<T>) -> Answer<T> {
    let began = std::time::Instant::now();
    let told = move |answer: Result<T>| {
        metrics::histogram!("fastsession_commit_seconds").record(began.elapsed());
        if answer.is_err() {
            metrics::counter!("fastsession_commit_failures_total").increment(1);
        }
        answer
    };
    match answer.now() {
        Ok(answer) => Answer::ready(told(answer)),
        Err(answer) => Answer::pending(async move { told(answer.await) }),
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
pub(crate) fn swept(removed: u64) {
    #[cfg(feature = "metrics")]
    metrics::counter!("fastsession_swept_total").increment(removed);
}

/// How things stand with a session file.
#[cfg(all(feature = "redb", feature = "metrics"))]
pub(crate) struct Standing {
    pub(crate) queued: usize,
    /// Since the published snapshot was begun; `None` if none is.
    pub(crate) snapshot_age: Option<std::time::Duration>,
    /// `None` if it cannot be told, as the file is being reopened.
    pub(crate) file_bytes: Option<u64>,
    pub(crate) records: Option<u64>,
}

#[cfg(all(feature = "redb", feature = "metrics"))]
pub(crate) fn standing(standing: &Standing) {
    #[allow(clippy::cast_precision_loss, reason = "all are far below 2⁵²")]
    let set = |gauge: metrics::Gauge, value: Option<u64>| {
        if let Some(value) = value {
            gauge.set(value as f64);
        }
    };
    set(metrics::gauge!("fastsession_queue_jobs"), u64::try_from(standing.queued).ok());
    metrics::gauge!("fastsession_snapshot_age_seconds")
        .set(standing.snapshot_age.unwrap_or_default().as_secs_f64());
    set(metrics::gauge!("fastsession_file_bytes"), standing.file_bytes);
    set(metrics::gauge!("fastsession_records"), standing.records);
}
