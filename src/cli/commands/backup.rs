//! `backup`: copy the file while the application serves.

use super::FileContext;
use crate::cli::args::BackupArgs;
use crate::cli::exit::{DONE, Outcome};
use crate::cli::report::{self, Copied, counted, escape};

pub(crate) fn run(args: &BackupArgs, context: &mut FileContext<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let done = context.carry_out("there is no copy", |file| file.backup(&args.file))?;
    let path = args.file.display().to_string();
    let made = Copied { path, records: done.records, bytes: done.bytes };
    report::object(context.console, context.format, &made, |console| {
        if console.quiet {
            return String::new();
        }
        let (records, size) = (counted(made.records, "record"), report::size(made.bytes));
        format!("copied {records} to {} ({size})\n", escape::line(&made.path))
    })?;
    Ok(DONE)
}
