//! What the verbs about the file as a whole take.

use std::path::PathBuf;

use clap::Args;

use super::{Assent, Reason};

#[derive(Debug, Args)]
#[command(after_help = "Exits with 5 if anything is damaged.")]
pub(crate) struct CheckArgs {
    /// Save what can be read into a new file, and keep the broken one beside it as
    /// FILE.broken-TIME; the application must be stopped
    #[arg(long)]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) assent: Assent,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A new file, closed to others; else standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The signing keys, too: whoever has them and the sessions' cookies needs nothing else
    #[arg(long)]
    pub(crate) with_keys: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Adds what is not there, and changes nothing that is. What is known to be over \
                  here is left out; a session whose record was removed after its end comes back \
                  from an older export."
)]
pub(crate) struct ImportArgs {
    /// What `export` wrote; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The copy is the file as it was at one moment, checked, and readable by you only. \
                  It holds the signing keys: who has it can sign cookies."
)]
pub(crate) struct BackupArgs {
    /// Where to; there must be nothing yet
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The former file is kept beside it as FILE.replaced-TIME. Sessions and keys are \
                  those of the backup again: what ended since lives again."
)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// End every session in it before it takes the place
    #[arg(long)]
    pub(crate) expire_all: bool,
    #[command(flatten)]
    pub(crate) assent: Assent,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
#[command(after_help = "The new file is written beside the former, which needs room for both. \
                  Interrupted at any moment, a whole file is in place.")]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) reason: Reason,
}
