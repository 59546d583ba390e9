//! `compact`: write the file anew, as small as what it holds.

use super::{FileContext, UNCHANGED};
use crate::cli::args::CompactArgs;
use crate::cli::exit::{DONE, Outcome};
use crate::cli::report::{self, Compacted};

pub(crate) fn run(args: &CompactArgs, context: &mut FileContext<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    context.console.note("this needs the file for itself: no process can open it meanwhile");
    let note = context.note(&args.reason);
    let done = context.carry_out(UNCHANGED, |file| file.compact(Some(&note)))?;
    let done = Compacted { bytes_before: done.bytes_before, bytes_after: done.bytes_after };
    report::object(context.console, context.format, &done, |console| {
        if console.quiet {
            return String::new();
        }
        let (before, after) = (report::size(done.bytes_before), report::size(done.bytes_after));
        format!("the file had {before} and has {after} now\n")
    })?;
    Ok(DONE)
}
