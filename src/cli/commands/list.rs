//! `list`: sessions by filter.

use std::cmp::Ordering;
use std::time::Duration;

use super::Context;
use crate::cli::args::{Format, ListArgs, SortKey};
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::progress::{Unit, Work};
use crate::cli::report::{Listing, SessionRow, counted};
use crate::cli::select::{LONG_PAGE, PAGE, Pages, part_before};
use crate::store::{Filter, Summary};

pub(crate) async fn run(args: &ListArgs, mut context: Context<'_, '_>) -> Outcome {
    if !args.watch {
        return show(args, &mut context).await;
    }
    if !context.console.screen.stdout || context.format != Format::Table {
        return Err(Failure::usage("--watch draws a table on a terminal, and only there")
            .next("leave out --watch, and repeat the command as you need it"));
    }
    context.console.signals.listen();
    while context.console.signals.received().is_none() {
        // Home, then clear: without a flicker, and without a trace in the scrollback.
        context.console.print("\x1b[H\x1b[J")?;
        show(args, &mut context).await?;
        context.console.stdout.flush()?;
        for _ in 0..20 {
            if context.console.signals.received().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(DONE)
}

async fn show(args: &ListArgs, context: &mut Context<'_, '_>) -> Outcome {
    let filter = args.filter.to_filter(context.store).await?;
    let now = context.store.clock().now();
    let mut listing = Listing::new(context.format, context.console.screen, now);
    let corrupt = match (args.sort, args.reverse) {
        (None | Some(SortKey::Id), false) => stream(args, filter, context, &mut listing).await?,
        (key, _) => sorted(args, key, filter, context, &mut listing).await?,
    };
    listing.finish::<SessionRow>(context.console)?;
    if listing.written() == 0 {
        context.console.note("no session matches");
    }
    if corrupt == 0 {
        return Ok(DONE);
    }
    let what = format!("{} cannot be decoded and may be missing", counted(corrupt, "record"));
    Err(Failure::new(CORRUPT, what).next("restore the database from a backup if this spreads"))
}

/// In order of ID, each page written before the next is fetched.
async fn stream(
    args: &ListArgs,
    filter: Filter,
    context: &mut Context<'_, '_>,
    listing: &mut Listing,
) -> Outcome<u64> {
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut corrupt = 0;
    let mut pages = Pages::new(context.store, filter, left.min(LONG_PAGE));
    let mut work = Work::begin(context.console, "listing", Unit::Rows);
    while left > 0
        && let Some(page) = pages.next().await?
    {
        corrupt += page.corrupt.len() as u64;
        let rows: Vec<_> = page.sessions.into_iter().take(left).map(SessionRow::from).collect();
        left -= rows.len();
        if left > 0 {
            pages.ask_ahead().await;
        }
        listing.write(&rows, context.console)?;
        // On the terminal itself the rows show how far it is.
        let step = if context.console.screen.stdout {
            work.goes_on()
        } else {
            if let Some(next) = &page.next {
                work.reach(part_before(next));
            }
            work.advance(context.console, rows.len() as u64)
        };
        if step.is_break() && left > 0 && page.next.is_some() {
            return Err(interrupted(&work, listing, args));
        }
    }
    Ok(corrupt)
}

/// `--watch` ends so; all else is cut.
fn interrupted(work: &Work, listing: &Listing, args: &ListArgs) -> Failure {
    if args.watch {
        return Failure::new(DONE, "");
    }
    let listed = format!("listed {}", counted(listing.written(), "session"));
    work.stopped(&listed, "repeat the command for a whole list")
}

/// In another order: all are looked at first, and no more are kept than `--limit`.
async fn sorted(
    args: &ListArgs,
    key: Option<SortKey>,
    filter: Filter,
    context: &mut Context<'_, '_>,
    listing: &mut Listing,
) -> Outcome<u64> {
    let limit = args.limit.unwrap_or(usize::MAX);
    let order = |a: &Summary, b: &Summary| {
        let order = compare(key, a, b).then_with(|| a.id.cmp(&b.id));
        if args.reverse { order.reverse() } else { order }
    };
    let mut corrupt = 0;
    let mut kept = Vec::new();
    let mut pages = Pages::new(context.store, filter, LONG_PAGE);
    let mut work = Work::begin(context.console, "sorting", Unit::Rows);
    while let Some(page) = pages.next().await? {
        if let Some(next) = &page.next {
            work.reach(part_before(next));
        }
        if work.advance(context.console, page.sessions.len() as u64).is_break() {
            return Err(interrupted(&work, listing, args));
        }
        corrupt += page.corrupt.len() as u64;
        kept.extend(page.sessions);
        if kept.len() > limit {
            kept.sort_unstable_by(order);
            kept.truncate(limit);
        }
    }
    kept.sort_unstable_by(order);
    let mut kept = kept.into_iter().map(SessionRow::from).peekable();
    while kept.peek().is_some() {
        let rows: Vec<_> = kept.by_ref().take(PAGE).collect();
        listing.write(&rows, context.console)?;
        if work.goes_on().is_break() && kept.peek().is_some() {
            return Err(interrupted(&work, listing, args));
        }
    }
    Ok(corrupt)
}

fn compare(key: Option<SortKey>, a: &Summary, b: &Summary) -> Ordering {
    match key {
        None | Some(SortKey::Id) => Ordering::Equal,
        Some(SortKey::Created) => a.created_at.cmp(&b.created_at),
        Some(SortKey::LastSeen) => a.last_seen_at.cmp(&b.last_seen_at),
        Some(SortKey::Expires) => a.expires_at.cmp(&b.expires_at),
        Some(SortKey::User) => a.user.cmp(&b.user),
        Some(SortKey::Size) => a.size_bytes.cmp(&b.size_bytes),
    }
}
