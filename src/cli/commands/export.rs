//! `export`: everything that is stored, as JSON Lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Context;
use crate::cli::args::ExportArgs;
use crate::cli::exit::{CORRUPT, DONE, FAILED, Failure, Outcome};
use crate::cli::lines::{End, FORMAT, Head, Keys, Line, Session};
use crate::cli::progress::{Unit, Work};
use crate::cli::report::{self, counted, escape};
use crate::cli::select::{PAGE, part_before};
use crate::cli::time::Instant;
use crate::id::SessionId;
use crate::store::{Filter, Freshness, Query};

pub(crate) async fn run(args: &ExportArgs, mut context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let Some(path) = &args.output else {
        if args.with_keys {
            return Err(Failure::usage("keys are never written to standard output")
                .because("they are secrets, and a file can be closed to others")
                .next("name a new file with -o"));
        }
        let written = write_all(None, args, &mut context).await?;
        return finish(&written, None, &mut context);
    };
    let mut file = BufWriter::new(create(path)?);
    let written = match write_all(Some(&mut file), args, &mut context).await {
        Ok(written) => file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map(|()| written)
            .map_err(|error| unwritable(path, &error)),
        Err(failure) => Err(failure),
    };
    if written.is_err() {
        // Half an export is of no use.
        let _ = std::fs::remove_file(path);
    }
    finish(&written?, Some(path), &mut context)
}

/// A new file that nobody else can read.
fn create(path: &Path) -> Outcome<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|error| {
        let failure = unwritable(path, &error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failure.next("name a file that is not there yet"),
            _ => failure,
        }
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FAILED, format!("{} cannot be written", path.display())).because(error.to_string())
}

#[derive(Default)]
struct Written {
    sessions: u64,
    corrupt: Vec<SessionId>,
}

/// Writes an export to `file`, else to standard output.
async fn write_all(
    mut file: Option<&mut BufWriter<File>>,
    args: &ExportArgs,
    context: &mut Context<'_, '_>,
) -> Outcome<Written> {
    let store = context.store;
    let mut work = Work::begin(context.console, "exporting", Unit::Rows);
    let at = store.clock().now();
    let mut write = |context: &mut Context<'_, '_>, text: &str| match (&mut file, &args.output) {
        (Some(file), Some(path)) => {
            file.write_all(text.as_bytes()).map_err(|error| unwritable(path, &error))
        }
        _ => context.console.print(text),
    };
    let head = Head { format: FORMAT, exported_at: Instant(at).to_string() };
    write(context, &line(&Line::Export(head))?)?;
    let filter = Filter::new().any_state();
    let mut query = Query { filter, after: None, limit: PAGE, at };
    let mut written = Written::default();
    loop {
        let page = store.records(&query).await?;
        let mut text = String::new();
        for (id, record) in &page.records {
            text += &line(&Line::Session(Box::new(Session::new(*id, record))))?;
        }
        write(context, &text)?;
        written.sessions += page.records.len() as u64;
        written.corrupt.extend(page.corrupt);
        let Some(next) = page.next else { break };
        work.reach(part_before(&next));
        if work.advance(context.console, page.records.len() as u64).is_break() {
            let done = format!("wrote {}", counted(written.sessions, "session"));
            let failure = work.stopped(&done, "repeat the command for a whole export");
            return Err(match &args.output {
                Some(_) => failure.because("the file was removed again"),
                None => failure,
            });
        }
        query.after = Some(next);
    }
    if args.with_keys {
        let ring = store.keys(Freshness::Current).await?;
        let text = zeroize::Zeroizing::new(line(&Line::Keys(Keys::new(&ring)))?);
        write(context, &text)?;
    }
    write(context, &line(&Line::End(End { sessions: written.sessions }))?)?;
    Ok(written)
}

fn line(line: &Line) -> Outcome<String> {
    Ok(report::to_json(line)? + "\n")
}

fn finish(written: &Written, path: Option<&Path>, context: &mut Context<'_, '_>) -> Outcome {
    let sessions = counted(written.sessions, "session");
    let place = path.map(|path| format!(" to {}", path.display())).unwrap_or_default();
    context.console.note(&escape::line(&format!("exported {sessions}{place}")));
    if written.corrupt.is_empty() {
        return Ok(DONE);
    }
    let what = format!(
        "{} cannot be decoded and {} left out",
        counted(written.corrupt.len() as u64, "record"),
        if written.corrupt.len() == 1 { "was" } else { "were" }
    );
    Err(Failure::new(CORRUPT, what).next("`check` names what is damaged"))
}
