//! `expire`: end live sessions now.

use super::Context;
use crate::cli::args::ExpireArgs;
use crate::cli::confirm::confirm;
use crate::cli::console::{Console, unreadable};
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::note::Noted;
use crate::cli::progress::{Unit, Work};
use crate::cli::report::{self, Changed, counted};
use crate::cli::select::{self, PAGE, Pages, Resolved};
use crate::id::{IdPrefix, SessionId};
use crate::record::EndedBy;
use crate::store::{Expired, Filter, Selector, end_ids, expire};

/// Sessions that are counted though nobody asks.
const COUNTED: u64 = 1000;

pub(crate) async fn run(args: &ExpireArgs, context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    match (args.ids.is_empty(), args.filter.is_given()) {
        (false, true) => Err(Failure::usage("IDs and filters cannot be combined")
            .next("name the sessions, or describe them")),
        (false, false) => by_id(args, context).await,
        (true, _) if args.all || args.filter.selects() => by_filter(args, context).await,
        (true, _) => Err(Failure::usage("it is not said which sessions to end")
            .next("give IDs, `-` to read them, a filter such as --user, or --all")),
    }
}

async fn by_filter(args: &ExpireArgs, context: Context<'_, '_>) -> Outcome {
    let filter = args.filter.to_filter(context.store).await?;
    let dry_run = args.dry_run.is_set;
    // One commit ends all of a user's, or everyone's: who does not ask need not wait for a count.
    let at_once = filter.is_user_only() && filter.exceptions().len() <= 1;
    let count = if at_once && args.assent.yes && !dry_run {
        select::count_up_to(context.store, filter.clone(), COUNTED).await?
    } else {
        Some(select::count(context.store, filter.clone(), context.console, |_| true).await?)
    };
    let store = context.noted(count.map(|count| count.live));
    let Context { console, format, .. } = context;
    let mut report = Changed {
        matched: count.map(|count| count.matched),
        ended: count.map(|count| count.live),
        already_over: count.map_or(0, |count| count.matched - count.live),
        dry_run,
        ..Changed::default()
    };
    if !dry_run && report.ended != Some(0) {
        let live = report.ended.unwrap_or_default();
        let question = format!("End {}?", counted(live, "live session"));
        confirm(console, &question, args.assent.yes)?;
        let done = if at_once {
            expire(&*store, Selector::filter(filter), EndedBy::Cli).await?.ended
        } else {
            Some(end_matching(&store, &filter, live, console).await?)
        };
        // One commit ended everyone's, so the count from before it is what there is to tell.
        report.ended = done.filter(|_| report.ended.is_some()).or(report.ended);
    }
    report.write(console, format, &text(&report))?;
    Ok(DONE)
}

/// Page by page; each session is checked again in the transaction that ends it.
async fn end_matching(
    store: &Noted<'_>,
    filter: &Filter,
    live: u64,
    console: &mut Console<'_>,
) -> Outcome<u64> {
    let mut work = Work::begin(console, "ending", Unit::Rows).of(live);
    let mut pages = Pages::new(&**store, filter.clone(), PAGE);
    let mut ended = 0;
    while let Some(page) = pages.next().await? {
        let ids: Vec<_> = page.sessions.iter().map(|session| session.id).collect();
        let mut done = Expired { ended: Some(0), ..Expired::default() };
        let outcome = end_ids(&**store, &ids, filter, EndedBy::Cli, &mut done).await;
        let step = done.ended.unwrap_or_default();
        ended += step;
        outcome.map_err(|error| Failure::from(error).after("ended", ended, "session"))?;
        if work.advance(console, step).is_break() && page.next.is_some() {
            let done = format!("ended {}", counted(ended, "session"));
            return Err(work.stopped(&done, "repeat the command to go on"));
        }
    }
    Ok(ended)
}

async fn by_id(args: &ExpireArgs, context: Context<'_, '_>) -> Outcome {
    let format = context.format;
    let mut ending = Ending::new(args.dry_run.is_set, context);
    // A typing error ends nothing.
    for id in args.ids.iter().filter(|id| *id != "-") {
        if id.parse::<IdPrefix>().is_err() || id.len() < 4 {
            select::resolve_to_end(ending.context.store, id).await?;
        }
    }
    let outcome = ending.add_all(&args.ids).await;
    // What was ended is told though the rest failed.
    if outcome.is_ok() || ending.report.matched > Some(0) {
        let text = text(&ending.report);
        ending.report.write(ending.context.console, format, &text)?;
    }
    outcome.map(|()| ending.code)
}

/// Ends sessions by ID, some at a time, however many standard input names.
struct Ending<'a, 'b> {
    store: Noted<'a>,
    context: Context<'a, 'b>,
    batch: Vec<SessionId>,
    live: u64,
    work: Work,
    report: Changed,
    code: u8,
}

impl<'a, 'b> Ending<'a, 'b> {
    fn new(dry_run: bool, context: Context<'a, 'b>) -> Self {
        let report = Changed { matched: Some(0), ended: Some(0), dry_run, ..Changed::default() };
        let store = context.noted(None);
        let work = Work::begin(context.console, "ending", Unit::Rows);
        Self { store, context, batch: Vec::new(), live: 0, work, report, code: DONE }
    }

    async fn add_all(&mut self, ids: &[String]) -> Outcome<()> {
        for id in ids {
            if id == "-" {
                self.add_lines().await?;
            } else {
                self.add(id, None).await?;
            }
        }
        self.flush().await
    }

    /// The first word of each line, so that a listing for people will do, too.
    async fn add_lines(&mut self) -> Outcome<()> {
        let mut line = String::new();
        for number in 1_u64.. {
            line.clear();
            let read = self.context.console.stdin.read_line(&mut line);
            if self.work.advance(self.context.console, 1).is_break() {
                return self.stop().await;
            }
            if read.map_err(|e| unreadable(&e))? == 0 {
                return Ok(());
            }
            if let Some(id) = line.split_whitespace().next() {
                self.add(id, Some(number)).await?;
            }
        }
        Ok(())
    }

    /// Ends what was read, and no more, because of a signal.
    async fn stop(&mut self) -> Outcome<()> {
        self.flush().await?;
        let verb = if self.report.dry_run { "counted" } else { "ended" };
        let done = counted(self.report.ended.unwrap_or_default(), "session");
        let next = "repeat the command to go on: what is over already does no harm";
        Err(self.work.stopped(&format!("{verb} {done}"), next))
    }

    /// A session that is not there keeps no other from being ended. `line` is that of standard
    /// input.
    async fn add(&mut self, id: &str, line: Option<u64>) -> Outcome<()> {
        match select::resolve_to_end(self.context.store, id).await {
            Ok(Resolved::Corrupt(id)) => {
                let failure = Failure::new(CORRUPT, format!("session {id} cannot be decoded"));
                self.fail(&failure.next("`check` names what is damaged"));
            }
            Ok(session) if self.batch.contains(&session.id()) => {}
            Ok(session) => {
                self.live += u64::from(session.is_live());
                self.batch.push(session.id());
            }
            Err(mut failure) if failure.is_about_an_id() => {
                if let Some(line) = line {
                    failure.what = format!("line {line}: {}", failure.what);
                }
                self.fail(&failure);
            }
            Err(failure) => return Err(failure),
        }
        if self.batch.len() >= PAGE { self.flush().await } else { Ok(()) }
    }

    fn fail(&mut self, failure: &Failure) {
        self.context.console.fail(failure);
        self.code = self.code.max(failure.code);
    }

    fn add_counts(&mut self, matched: u64, ended: u64) {
        self.report.matched = self.report.matched.map(|count| count + matched);
        self.report.ended = self.report.ended.map(|count| count + ended);
    }

    async fn flush(&mut self) -> Outcome<()> {
        let batch = std::mem::take(&mut self.batch);
        let live = std::mem::take(&mut self.live);
        let matched = batch.len() as u64;
        if self.report.dry_run {
            self.add_counts(matched, live);
            self.report.already_over += matched - live;
            return Ok(());
        }
        let done = expire(&*self.store, Selector::ids(batch), EndedBy::Cli).await?;
        self.add_counts(matched, done.ended.unwrap_or(live));
        self.report.already_over += done.already_over;
        Ok(())
    }
}

fn text(report: &Changed) -> String {
    let verb = if report.dry_run { "would end" } else { "ended" };
    let over = match report.already_over {
        0 => String::new(),
        over => format!("; {over} already over"),
    };
    match report.ended {
        Some(ended) => format!("{verb} {}{over}", counted(ended, "session")),
        None => format!("{verb} all of more than {COUNTED} sessions at once"),
    }
}
