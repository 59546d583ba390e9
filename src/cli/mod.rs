//! The command-line tool: [`run`], and the exit codes scripts rely on.
//!
//! `fastsession` is this function and nothing else, so an application can carry it as a
//! subcommand of its own: the same image, the same user, the same version.
//!
//! ```no_run
//! # fn serve() {}
//! fn main() -> std::process::ExitCode {
//!     let mut args = std::env::args_os().skip(1);
//!     if args.next().is_some_and(|verb| verb == "sessions") {
//!         return fastsession::cli::run(["myapp sessions".into()].into_iter().chain(args));
//!     }
//!     serve();
//!     std::process::ExitCode::SUCCESS
//! }
//! ```
//!
//! Data goes to standard output, all else to standard error. No store transaction is open while a
//! person or a pipe is waited for: what is fetched is complete before it is written. What a
//! machine format holds is stable: snake case, full IDs, RFC 3339 in UTC, integer bytes and
//! seconds.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;
use std::process::ExitCode;

mod args;
mod commands;
mod confirm;
mod console;
pub mod exit;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod holders;
mod input;
mod lines;
mod note;
mod open;
mod progress;
pub mod report;
mod select;
mod signals;
#[cfg(test)]
mod tests;
mod time;

use args::{ColorChoice, CommandLine, Verb};
use commands::{Context, FileContext};
use console::{Console, Screen};
use exit::{Failure, Outcome};
use input::Input;
use open::{Location, Opener};
use signals::Signals;

use crate::expiry::Clock;

/// Runs the command line `args`, whose first item is the program's name as messages show it, on
/// the process's standard streams.
///
/// The database is that of `--db`, else of the environment variable `FASTSESSION_DB`, else
/// `./sessions.redb`. May be called inside or outside of an async runtime; it blocks until the
/// command is done. The codes it exits with are the constants of [`exit`]. The process's panic hook
/// is not called any more for panics that are caught and told as errors.
pub fn run(args: impl IntoIterator<Item = impl Into<OsString>>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    report_only_what_nobody_catches();
    // On a thread of its own, since a runtime cannot be started within the caller's.
    let code = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("fastsession-cli".into())
            .spawn_scoped(scope, || run_on_process(&args))
            .map_or(exit::FAILED, |thread| thread.join().unwrap_or(exit::FAILED))
    });
    ExitCode::from(code)
}

/// A damaged page makes redb panic, which is caught and told like any other error.
fn report_only_what_nobody_catches() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !crate::store::is_shielded() {
            report(panic);
        }
    }));
}

fn run_on_process(args: &[OsString]) -> u8 {
    let signals = Signals::default();
    let mut console = Console {
        program: program(args),
        stdin: &mut BufReader::new(Input::new(io::stdin(), signals.clone())),
        stdout: &mut BufWriter::new(io::stdout()),
        stderr: &mut io::stderr(),
        screen: Screen::of_process(),
        quiet: false,
        color: ColorChoice::Auto,
        signals,
        drawn: false,
    };
    run_with(args, std::env::var_os("FASTSESSION_DB"), &mut console, &open::existing)
}

fn program(args: &[OsString]) -> String {
    let name = args.first().and_then(|path| Path::new(path).file_name());
    name.map_or_else(|| "fastsession".into(), |name| name.to_string_lossy().into_owned())
}

/// Runs `args` on the given streams and store.
fn run_with(
    args: &[OsString],
    environment: Option<OsString>,
    console: &mut Console<'_>,
    opener: &Opener<'_>,
) -> u8 {
    let outcome = match args::parse(args) {
        Ok(line) => {
            console.configure(&line.global);
            block_on(execute(&line, environment, console, opener))
        }
        Err(error) => explain(&error, args, console),
    };
    let flushed = console.stdout.flush();
    outcome.and_then(|code| Ok(flushed.map(|()| code)?)).unwrap_or_else(|failure| {
        console.fail(&failure);
        failure.code
    })
}

fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(exit::FAILED, "cannot start").because(e.to_string()))?;
    runtime.block_on(command)
}

async fn execute(
    line: &CommandLine,
    environment: Option<OsString>,
    console: &mut Console<'_>,
    opener: &Opener<'_>,
) -> Outcome {
    let mut location = Location::find(line.global.db.as_deref(), environment);
    location.may_be_made = matches!(line.verb, Verb::Import(_));
    location.is_read_once =
        matches!(line.verb, Verb::List(_) | Verb::Inspect(_) | Verb::Stats(_) | Verb::Export(_));
    match &line.verb {
        Verb::Completions(args) => return commands::manual::completions(args.shell, console),
        Verb::Man => return commands::manual::pages(console),
        _ => {}
    }
    let format = line.global.format();
    if let Verb::Init = line.verb {
        return commands::init::run(&location, line.global.wait, format, console).await;
    }
    let wait = line.global.wait;
    let now = Clock::system().now();
    if let Some(verb) = line.verb.on_file() {
        let other = match &line.verb {
            Verb::Backup(args) => Some(&*args.file),
            Verb::Restore(args) => Some(&*args.file),
            _ => None,
        };
        let mut file = FileContext { location: &location, wait, console, format, now, verb, other };
        return commands::on_file(&line.verb, &mut file);
    }
    let source = match &line.verb {
        Verb::Import(args) => Some(commands::import::Source::open(args, console)?),
        _ => None,
    };
    let store = open::open(opener, &location, line.global.wait, &console.program)?;
    let note = note::of(&line.verb, store.clock().now());
    let context = Context { store: &*store, console, format, note };
    let outcome = match (&line.verb, source) {
        (Verb::List(args), _) => commands::list::run(args, context).await,
        (Verb::Inspect(args), _) => commands::inspect::run(args, context).await,
        (Verb::Expire(args), _) => commands::expire::run(args, context).await,
        (Verb::Purge(args), _) => commands::purge::run(args, context).await,
        (Verb::Key(verb), _) => commands::key::run(verb, context).await,
        (Verb::Stats(args), _) => commands::stats::run(args, context).await,
        (Verb::Log(args), _) => commands::log::run(args, context).await,
        (Verb::Export(args), _) => commands::export::run(args, context).await,
        (Verb::Import(_), Some(source)) => commands::import::run(source, context).await,
        // Done above.
        _ => Ok(exit::DONE),
    };
    let closed = store.close().await;
    let code = outcome?;
    closed?;
    Ok(code)
}

/// Shows help, or why the command line is not understood.
fn explain(error: &clap::Error, args: &[OsString], console: &mut Console<'_>) -> Outcome {
    let is_help = !error.use_stderr();
    let terminal = if is_help { console.screen.stdout } else { console.screen.stderr };
    let text = message(error, args, console.colors(terminal));
    if is_help {
        console.print(&text)?;
        return Ok(exit::DONE);
    }
    let _ = write!(console.stderr, "{text}");
    Ok(exit::USAGE)
}

/// What clap has to say. It repeats arguments as they are: one that would act on a terminal costs
/// the message its colours, so that all that is left of control characters can be escaped.
fn message(error: &clap::Error, args: &[OsString], colored: bool) -> String {
    let text = error.render();
    let is_plain = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        report::escape::line(&arg) == arg
    };
    if colored && args.iter().all(is_plain) {
        return without_secrets(text.ansi().to_string(), args);
    }
    report::escape::lines(&without_secrets(text.to_string(), args))
}

/// The message without the secrets among the arguments: cookies, and passwords in URLs.
fn without_secrets(message: String, args: &[OsString]) -> String {
    let args = args.iter().filter_map(|arg| arg.to_str());
    args.fold(message, |message, arg| {
        if select::looks_like_cookie(arg) {
            // Nothing short: what occurs everywhere would be replaced everywhere.
            let value = arg.rsplit('=').next().filter(|value| select::looks_like_cookie(value));
            return message.replace(value.unwrap_or(arg), "(a cookie)");
        }
        match arg.find("://") {
            Some(_) => message.replace(arg, &open::without_password(arg)),
            None => message,
        }
    })
}
