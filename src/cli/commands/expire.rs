//! `expire`: end live sessions now.

use super::Context;
use crate::cli::args::ExpireArgs;
use crate::cli::confirm::confirm;
use crate::cli::console::unreadable;
use crate::cli::exit::{CORRUPT, DONE, Failure, Outcome};
use crate::cli::note::Noted;
use crate::cli::report::{self, Changed, counted};
use crate::cli::select::{self, PAGE, Resolved};
use crate::id::{IdPrefix, SessionId};
use crate::record::EndedBy;
use crate::store::{Selector, expire};

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
    let count = select::count(context.store, filter.clone(), |_| true).await?;
    let store = context.noted(Some(count.live));
    let Context { console, format, .. } = context;
    let mut report = Changed {
        matched: count.matched,
        ended: count.live,
        already_over: count.matched - count.live,
        dry_run: args.dry_run.is_set,
        ..Changed::default()
    };
    if !report.dry_run && count.live > 0 {
        let question = format!("End {}?", counted(count.live, "live session"));
        confirm(console, &question, args.assent.yes)?;
        let done = expire(&*store, Selector::filter(filter), EndedBy::Cli).await?;
        // One commit ended everyone's, so the count from before it is what there is to tell.
        report.ended = done.ended.unwrap_or(count.live);
    }
    report.write(console, format, &text(&report))?;
    Ok(DONE)
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
    if outcome.is_ok() || ending.report.matched > 0 {
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
    report: Changed,
    code: u8,
}

impl<'a, 'b> Ending<'a, 'b> {
    fn new(dry_run: bool, context: Context<'a, 'b>) -> Self {
        let report = Changed { dry_run, ..Changed::default() };
        let store = context.noted(None);
        Self { store, context, batch: Vec::new(), live: 0, report, code: DONE }
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
            if self.context.console.stdin.read_line(&mut line).map_err(|e| unreadable(&e))? == 0 {
                return Ok(());
            }
            if let Some(id) = line.split_whitespace().next() {
                self.add(id, Some(number)).await?;
            }
        }
        Ok(())
    }

    /// A session that is not there keeps no other from being ended. `line` is that of standard
    /// input.
    async fn add(&mut self, id: &str, line: Option<u64>) -> Outcome<()> {
        match select::resolve_to_end(self.context.store, id).await {
            Ok(Resolved::Corrupt(id)) => {
                self.fail(&Failure::new(CORRUPT, format!("session {id} cannot be decoded")));
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

    async fn flush(&mut self) -> Outcome<()> {
        let batch = std::mem::take(&mut self.batch);
        let live = std::mem::take(&mut self.live);
        let matched = batch.len() as u64;
        if self.report.dry_run {
            self.report.matched += matched;
            self.report.ended += live;
            self.report.already_over += matched - live;
            return Ok(());
        }
        let done = expire(&*self.store, Selector::ids(batch), EndedBy::Cli).await?;
        self.report.matched += matched;
        self.report.ended += done.ended.unwrap_or(live);
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
    format!("{verb} {}{over}", counted(report.ended, "session"))
}
