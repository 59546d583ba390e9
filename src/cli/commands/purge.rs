//! `purge`: remove what is over.

use super::Context;
use crate::cli::args::{PurgeArgs, StateArg};
use crate::cli::exit::{DONE, Failure, Outcome};
use crate::cli::progress::{Unit, Work};
use crate::cli::report::{self, Changed, counted};
use crate::cli::select::{PAGE, Pages, part_before};
use crate::id::SessionId;
use crate::record::State;
use crate::store::{FEWER, Filter, Remove, SessionStore, Summary, Sweep, purge_step};

/// Most records one step removes. A store that others wait for bounds a step by time as well.
pub(crate) const STEP: usize = 16 * 1024;

pub(crate) async fn run(args: &PurgeArgs, mut context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    if matches!(args.filter.state, Some(StateArg::Live)) {
        return Err(Failure::usage("what is live is never purged").next("`expire` ends it"));
    }
    let dry_run = args.dry_run.is_set;
    let purged = if dry_run || args.filter.is_given() {
        matching(args, &mut context).await?
    } else {
        everything(&mut context).await?
    };
    let report =
        Changed { matched: Some(purged), ended: Some(0), already_over: purged, purged, dry_run };
    let verb = if dry_run { "would remove" } else { "removed" };
    let text = format!("{verb} {}", counted(purged, "session"));
    report.write(context.console, context.format, &(text + " that had been over"))?;
    Ok(DONE)
}

const GO_ON: &str = "repeat the command to go on";

async fn everything(context: &mut Context<'_, '_>) -> Outcome<u64> {
    let mut work = Work::begin(context.console, "purging", Unit::Rows);
    let at = context.store.clock().now();
    let mut sweep = Sweep { at, limit: STEP, purge: true };
    let store = context.noted(None);
    let mut purged = 0;
    loop {
        let swept = purge_step(&*store, &mut sweep)
            .await
            .map_err(|error| Failure::from(error).after("removed", purged, "session"))?;
        purged += swept.removed;
        if !swept.more {
            return Ok(purged);
        }
        if work.advance(context.console, swept.removed).is_break() {
            let done = format!("removed {}", counted(purged, "session"));
            return Err(work.stopped(&done, GO_ON));
        }
    }
}

/// Page by page in order of ID.
async fn matching(args: &PurgeArgs, context: &mut Context<'_, '_>) -> Outcome<u64> {
    let dry_run = args.dry_run.is_set;
    let mut work = Work::begin(context.console, "purging", Unit::Rows);
    let store = context.noted(None);
    let mut filter = args.filter.to_filter(&*store).await?;
    if args.filter.state.is_none() {
        filter = over(filter);
    }
    let mut pages = Pages::new(&*store, filter.clone(), PAGE);
    let mut purged = 0;
    while let Some(page) = pages.next().await? {
        let mut step = 0;
        if dry_run {
            for session in &page.sessions {
                step += u64::from(is_removable(&*store, session).await?);
            }
        } else {
            let ids: Vec<_> = page.sessions.iter().map(|session| session.id).collect();
            let outcome = remove(&*store, &ids, &filter, &mut step).await;
            outcome.map_err(|failure| failure.after("removed", purged + step, "session"))?;
        }
        purged += step;
        if let Some(next) = &page.next {
            work.reach(part_before(next));
            if work.advance(context.console, step).is_break() {
                let verb = if dry_run { "counted" } else { "removed" };
                let done = format!("{verb} {}", counted(purged, "session"));
                return Err(work.stopped(&done, GO_ON));
            }
        }
    }
    Ok(purged)
}

/// Some at a time; fewer where there is no room to write in.
async fn remove(
    store: &dyn SessionStore,
    ids: &[SessionId],
    filter: &Filter,
    removed: &mut u64,
) -> Outcome<()> {
    let (mut left, mut most) = (ids, PAGE);
    while !left.is_empty() {
        let (some, rest) = left.split_at(left.len().min(most));
        let (ids, at) = (some.to_vec(), store.clock().now());
        match store.remove(Remove { ids, filter: filter.clone(), at }).await {
            Ok(done) => *removed += done.removed,
            Err(error) if error.is_full() && some.len() > 1 => {
                most = some.len().div_ceil(FEWER);
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        left = rest;
    }
    Ok(())
}

fn over(filter: Filter) -> Filter {
    [State::Expired, State::Ended, State::Superseded].into_iter().fold(filter, Filter::state)
}

/// A purge leaves the marks that requests running now may depend on; a summary does not show
/// which these are.
async fn is_removable(store: &dyn SessionStore, session: &Summary) -> Outcome<bool> {
    match session.state {
        State::Live => return Ok(false),
        State::Expired => return Ok(true),
        _ => {}
    }
    let found = store.inspect(&session.id).await?;
    let now = store.clock().now();
    Ok(found.is_some_and(|found| !found.record.is_in_grace(now)))
}
