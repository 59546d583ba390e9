//! The command line as clap sees it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::time::parse_duration;

mod file;
mod help;
mod key;
mod sessions;

pub(crate) use file::{
    BackupArgs, CheckArgs, CompactArgs, ExportArgs, ImportArgs, MigrateArgs, RestoreArgs,
};
pub(crate) use help::parse;
use help::{EXAMPLES, EXIT_CODES};
pub(crate) use key::{KeyVerb, Replacing};
pub(crate) use sessions::{
    ExpireArgs, FilterArgs, InspectArgs, ListArgs, LogArgs, PurgeArgs, SortKey, StateArg, StatsArgs,
};

/// The heading of what every verb takes.
const GLOBAL: &str = "Global options";

/// Look at sessions, end them and rotate their keys, while the application serves.
#[derive(Debug, Parser)]
#[command(name = "fastsession", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), disable_help_subcommand = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb, before or after it.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The database, a file or redis://…; else `FASTSESSION_DB`, else ./sessions.redb
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,
    /// How long to wait for a lock
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DURATION", default_value = "5s",
          allow_hyphen_values = true, value_parser = parse_duration)]
    pub(crate) wait: Duration,
    /// How to write the result
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Short for `--format json`
    #[arg(long, global = true, help_heading = GLOBAL, conflicts_with = "format")]
    json: bool,
    /// When to use colour
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
    /// Write nothing but data and errors
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
}

impl Global {
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// How to write the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One JSON object on each line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// IDs only, one on each line
    Ids,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a database with a fresh key
    Init,
    /// Show sessions by filter: live ones unless --state
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show one session's metadata and data, or judge a cookie
    #[command(visible_alias = "show")]
    Inspect(InspectArgs),
    /// End live sessions now
    #[command(visible_alias = "revoke")]
    Expire(ExpireArgs),
    /// Remove what is over; never ends a live session, never asks
    Purge(PurgeArgs),
    /// Look at the signing keys and change them
    #[command(subcommand, disable_help_subcommand = true)]
    Key(KeyVerb),
    /// Count sessions, users and bytes
    Stats(StatsArgs),
    /// Show who changed what with this tool, and why; newest first
    Log(LogArgs),
    /// Look for damage in the whole file, while the application serves; changes nothing
    Check(CheckArgs),
    /// Write everything that is stored, as JSON Lines
    Export(ExportArgs),
    /// Take in what `export` wrote; makes the database if there is none
    Import(ImportArgs),
    /// Copy the file, while the application serves
    Backup(BackupArgs),
    /// Put a backup in the place of the file; the application must be stopped
    Restore(RestoreArgs),
    /// Write the file anew, as small as what it holds; the application must be stopped
    Compact(CompactArgs),
    /// Bring a file of an older version to this one's schema
    Migrate(MigrateArgs),
    /// Write a script that completes this tool's words in a shell
    Completions(CompletionsArgs),
    /// Write the manual page of this tool and its verbs
    Man,
}

impl Verb {
    /// Its name, if it is about the file as a whole and opens it itself.
    pub(crate) fn on_file(&self) -> Option<&'static str> {
        Some(match self {
            Self::Check(args) if args.repair => "check --repair",
            Self::Check(_) => "check",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Compact(_) => "compact",
            Self::Migrate(_) => "migrate",
            _ => return None,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct DryRun {
    /// Report the same and change nothing
    #[arg(short = 'n', long = "dry-run")]
    pub(crate) is_set: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Assent {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Of every verb that changes something.
#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Why; `log` shows it
    #[arg(long = "reason", value_name = "TEXT")]
    pub(crate) text: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For this shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

fn parse_count(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "expected a whole number, such as 20")
}
