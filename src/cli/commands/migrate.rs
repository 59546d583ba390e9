//! `migrate`: bring a file of an older version to this one's schema.

use super::FileContext;
use crate::cli::args::MigrateArgs;
use crate::cli::exit::{DONE, Outcome};
use crate::cli::report::{self, Migrated};

pub(crate) fn run(args: &MigrateArgs, context: &mut FileContext<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    let note = context.note(&args.reason);
    let done = context.on_file(context.builder().migrate(Some(&note)))?;
    let done = Migrated { from: done.from, to: done.to };
    report::object(context.console, context.format, &done, |console| {
        if console.quiet {
            String::new()
        } else if done.from == done.to {
            format!("the file has schema {} already\n", done.to)
        } else {
            format!("the file had schema {} and has schema {} now\n", done.from, done.to)
        }
    })?;
    Ok(DONE)
}
