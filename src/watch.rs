//! What can be watched from outside while a store is waited for: spans of [`tracing`], and the time
//! a commit takes.
//!
//! The names of spans and fields are stable, and listed in `docs/operations.md`. Only what waits
//! has a span: an answer that is at hand has none, and costs nothing here. Nor does a span that
//! nobody listens to, but for the comparison of two numbers.

use tracing::field::Empty;
use tracing::{Instrument, Span, debug_span};

use crate::id::SessionId;
use crate::meter;
use crate::origin::Origin;
use crate::record::Absence;
use crate::store::{Answer, Commit, Loaded, Op, Outcome, SessionStore};

/// Of all spans, wherever the code that makes them is.
const TARGET: &str = "fastsession";

/// Asks `store` to commit.
#[inline]
pub(crate) fn commit<S: SessionStore + ?Sized>(store: &S, commit: Commit) -> Answer<Outcome> {
    let (id, op) = (commit.id, name(&commit.op));
    meter::asked(op);
    let answer = meter::timed(store.commit(commit));
    if answer.is_ready() {
        return answer;
    }
    let span = debug_span!(target: TARGET, "fastsession.commit", %id, op, outcome = Empty);
    followed(answer, span, |outcome| match outcome {
        Outcome::Committed(_) => "committed",
        Outcome::Exists => "exists",
        Outcome::Changed(_) => "changed",
        Outcome::Absent(absence) => absent(*absence),
    })
}

/// Follows the load of a session.
pub(crate) fn loading(answer: Answer<Loaded>, id: &SessionId) -> Answer<Loaded> {
    if answer.is_ready() {
        return answer;
    }
    let span = debug_span!(target: TARGET, "fastsession.load", %id, outcome = Empty);
    followed(answer, span, |loaded| match loaded {
        Loaded::Live(_) => "live",
        Loaded::Absent(absence) => absent(*absence),
    })
}

fn followed<T: Send + 'static>(
    answer: Answer<T>,
    span: Span,
    outcome: fn(&T) -> &'static str,
) -> Answer<T> {
    if span.is_disabled() {
        return answer;
    }
    Answer::pending(async move {
        let answer = answer.instrument(span.clone()).await;
        record_outcome(&span, answer.as_ref().map(outcome));
        answer
    })
}

fn record_outcome(span: &Span, outcome: std::result::Result<&'static str, &crate::Error>) {
    span.record("outcome", outcome.unwrap_or("failed"));
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Create { .. } => "create",
        Op::Merge(_) | Op::MergeUnseen { .. } => "merge",
        Op::CompareAndSet { .. } => "update",
        Op::Renew { .. } => "renew",
        Op::End { .. } => "end",
    }
}

/// The word for it is that of the origin.
fn absent(absence: Absence) -> &'static str {
    Origin::from(absence).as_str()
}

/// A batch of the writer, until it is durable and answered.
#[cfg(feature = "redb")]
pub(crate) fn batch(touches: usize) -> Span {
    debug_span!(target: TARGET, "fastsession.batch", jobs = Empty, touches, outcome = Empty)
}

/// What became of a batch, in its span.
#[cfg(feature = "redb")]
pub(crate) fn batch_done(span: &Span, jobs: usize, succeeded: bool) {
    span.record("jobs", jobs);
    span.record("outcome", if succeeded { "committed" } else { "failed" });
}

/// One step of a store's own sweeping.
pub(crate) fn sweep() -> Span {
    debug_span!(target: TARGET, "fastsession.sweep", removed = Empty)
}

/// Closing a file that failed and opening it again, until that succeeds.
#[cfg(feature = "redb")]
pub(crate) fn reopen() -> Span {
    tracing::info_span!(target: TARGET, "fastsession.reopen", attempts = Empty)
}
