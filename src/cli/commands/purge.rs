//! `purge`: remove what is over.

use super::Context;
use crate::cli::args::PurgeArgs;
use crate::cli::exit::{DONE, Outcome};
use crate::cli::progress::{Unit, Work};
use crate::cli::report::{self, Changed, counted};
use crate::cli::select::{PAGE, Pages};
use crate::record::State;
use crate::store::{Filter, SessionStore, Summary, Sweep};

pub(crate) async fn run(args: &PurgeArgs, mut context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let dry_run = args.dry_run.is_set;
    let purged =
        if dry_run { count_removable(context.store).await? } else { sweep(&mut context).await? };
    let report =
        Changed { matched: purged, already_over: purged, purged, dry_run, ..Changed::default() };
    let verb = if dry_run { "would remove" } else { "removed" };
    let text = format!("{verb} {}", counted(purged, "session"));
    report.write(context.console, context.format, &(text + " that had been over"))?;
    Ok(DONE)
}

async fn sweep(context: &mut Context<'_, '_>) -> Outcome<u64> {
    let mut work = Work::begin(context.console, "purging", Unit::Sessions);
    let at = context.store.clock().now();
    let store = context.noted(None);
    let mut purged = 0;
    loop {
        let swept = store.sweep(Sweep { at, limit: PAGE, purge: true }).await?;
        purged += swept.removed;
        if !swept.more {
            return Ok(purged);
        }
        if work.advance(context.console, swept.removed).is_break() {
            let done = format!("removed {}", counted(purged, "session"));
            return Err(work.stopped(&done, "repeat the command to go on"));
        }
    }
}

async fn count_removable(store: &dyn SessionStore) -> Outcome<u64> {
    let over = Filter::new().state(State::Expired).state(State::Ended).state(State::Superseded);
    let mut pages = Pages::new(store, over, PAGE);
    let mut count = 0;
    while let Some(page) = pages.next().await? {
        for session in &page.sessions {
            count += u64::from(is_removable(store, session).await?);
        }
    }
    Ok(count)
}

/// A purge leaves the marks that requests running now may depend on; a summary does not show
/// which these are.
async fn is_removable(store: &dyn SessionStore, session: &Summary) -> Outcome<bool> {
    if session.state == State::Expired {
        return Ok(true);
    }
    let found = store.inspect(&session.id).await?;
    let now = store.clock().now();
    Ok(found.is_some_and(|found| !found.record.is_in_grace(now)))
}
