//! `restore`: put a backup in the place of the file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::{FileContext, UNCHANGED};
use crate::cli::args::RestoreArgs;
use crate::cli::confirm::confirm;
use crate::cli::exit::{DONE, FAILED, Failure, Outcome};
use crate::cli::open;
use crate::cli::report::{self, Restored, counted, escape};
use crate::cli::time::{Instant, relative};
use crate::expiry::Timestamp;
use crate::store::{Note, RedbStoreBuilder};

pub(crate) fn run(args: &RestoreArgs, context: &mut FileContext<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    if is_same_file(&args.file, &context.location.path) {
        return Err(Failure::usage(format!("{} is the file itself", args.file.display()))
            .next("name a backup of it"));
    }
    let from = open::Location::find(Some(&args.file), None);
    let copied_at = open::builder(&from, context.wait).copied_at();
    let copied_at = copied_at.map_err(|error| {
        if error.is_not_found() {
            return Failure::new(FAILED, format!("there is no backup at {}", args.file.display()));
        }
        let is_corrupt = error.is_corrupt();
        let failure = from.explain(error, &context.console.program);
        // Its advice is about the file in use, which is as it was.
        if is_corrupt { failure.next("nothing was changed; name another backup") } else { failure }
    })?;
    let question = question(args, copied_at, context);
    confirm(context.console, &question, args.assent.yes)?;
    let expire_all = if args.expire_all { " --expire-all" } else { "" };
    let selector = format!("{}{expire_all}", args.file.display());
    let note = Note { selector, ..context.note(&args.reason) };
    let restore = |file: &RedbStoreBuilder| file.restore(&args.file, args.expire_all, Some(&note));
    let done = context.carry_out(UNCHANGED, restore)?;
    let kept = done.kept.map(|path| path.display().to_string());
    let done = Restored {
        path: context.location.path.display().to_string(),
        records: done.records,
        copied_at: done.copied_at.map(|at| Instant(at).to_string()),
        everyone_ended: done.everyone_ended,
        kept,
    };
    report::object(context.console, context.format, &done, |console| {
        if console.quiet {
            return String::new();
        }
        let records = counted(done.records, "record");
        let mut text = format!("restored {records} to {}", escape::line(&done.path));
        if done.everyone_ended {
            text += "; every session in it is ended";
        }
        if let Some(kept) = &done.kept {
            text += &["; the former file is ", &escape::line(kept)].concat();
        }
        text + "\n"
    })?;
    Ok(DONE)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    inode(one).is_some_and(|file| inode(other) == Some(file))
}

fn question(
    args: &RestoreArgs,
    copied_at: Option<Timestamp>,
    context: &FileContext<'_, '_>,
) -> String {
    let age = match copied_at {
        Some(at) => format!("was made {} ({})", relative(at, context.now), Instant(at)),
        None => format!("does not say when it was made{}", changed_at(args, context.now)),
    };
    let then = if args.expire_all {
        "Every session in it is ended."
    } else {
        "What ended since then lives again: logouts, `expire`, retired keys. --expire-all ends \
         every session in it."
    };
    format!("The backup {age}. {then} Put it in the place of {}?", context.location.path.display())
}

fn changed_at(args: &RestoreArgs, now: Timestamp) -> String {
    let modified = std::fs::metadata(&args.file).and_then(|meta| meta.modified());
    modified.map(|at: SystemTime| Timestamp::from(at)).map_or_else(
        |_| String::new(),
        |at| format!("; it was last changed {} ({})", relative(at, now), Instant(at)),
    )
}
