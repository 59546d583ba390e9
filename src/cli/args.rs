//! The command line as clap sees it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use super::time::{When, parse_duration};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, also when nothing matched
  1  failed
  2  usage
  3  no such session, or an ambiguous beginning of an ID
  4  in use, or no lock within --wait
  5  corruption found
  6  version mismatch
  130, 143  interrupted by Ctrl-C, by SIGTERM: what was done stays done";

/// The heading of what every verb takes.
const GLOBAL: &str = "Global options";

/// Verbs by topic; a verb that is in none stands with the last.
const TOPICS: [(&str, &[&str]); 4] = [
    ("Sessions", &["list", "inspect", "expire", "purge", "stats", "log"]),
    ("Keys", &["key"]),
    ("File", &["init", "check", "compact", "migrate", "backup", "restore", "export", "import"]),
    ("Tool", &["completions", "man"]),
];

const EXAMPLES: &str = "\
Examples:
  fastsession list --user alice
  fastsession inspect 3fa9c2d1
  fastsession expire --anonymous --idle-for 7d --dry-run
  fastsession list --idle-for 30d --format ids | fastsession expire -";

/// Reads a command line. Help names the verbs by topic.
pub(crate) fn parse(args: &[OsString]) -> Result<CommandLine, clap::Error> {
    let command = CommandLine::command();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{}\n{{options}}{{after-help}}\n",
        topics(&command),
        heading(&command, "Options")
    );
    let matches = command.help_template(template).try_get_matches_from(args)?;
    CommandLine::from_arg_matches(&matches)
}

fn parse_count(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "expected a whole number, such as 20")
}

fn topics(command: &clap::Command) -> String {
    let known = |name: &str| TOPICS.iter().any(|(_, verbs)| verbs.contains(&name));
    let mut out = String::new();
    for (place, (topic, names)) in TOPICS.iter().enumerate() {
        out = out + &heading(command, topic) + "\n";
        let verbs = names.iter().filter_map(|name| command.find_subcommand(name));
        let others = command.get_subcommands().filter(|verb| {
            place == TOPICS.len() - 1 && !known(verb.get_name()) && !verb.is_hide_set()
        });
        for verb in verbs.chain(others) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let aliases: Vec<_> = verb.get_visible_aliases().collect();
            let name = [&[verb.get_name()], &aliases[..]].concat().join(", ");
            out = format!("{out}  {name:<16}  {about}\n");
        }
        out.push('\n');
    }
    out
}

/// As clap writes its own; where there is no colour, it leaves out the style.
fn heading(command: &clap::Command, text: &str) -> String {
    let style = command.get_styles().get_header();
    format!("{style}{text}:{style:#}")
}

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

/// Which sessions. Conditions are combined with AND.
///
/// A TIME is a duration (30m, 7d, 1h30m) or an instant (2026-01-31T08:00:00Z).
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// Of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Of this realm
    #[arg(long, value_name = "NAME")]
    pub(crate) realm: Option<String>,
    /// Without a user
    #[arg(long, conflicts_with = "user")]
    pub(crate) anonymous: bool,
    /// Without activity for, or since, TIME (30m, 7d, 1h30m or 2026-01-31T08:00:00Z)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) idle_for: Option<When>,
    /// Created longer ago than, or before, TIME
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) older_than: Option<When>,
    /// Created less long ago than, or after, TIME
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) newer_than: Option<When>,
    /// But not this session; may be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) except: Vec<String>,
    /// In this state instead of live
    #[arg(long, value_enum)]
    pub(crate) state: Option<StateArg>,
}

/// A state to select by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateArg {
    Live,
    /// Timed out
    Expired,
    /// Logged out or ended by an operator
    Ended,
    /// Renewed under another ID
    Superseded,
    All,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Order of the rows, smallest first; without it by ID, as they stream
    #[arg(long, value_enum)]
    pub(crate) sort: Option<SortKey>,
    /// Largest first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most this many rows
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_count)]
    pub(crate) limit: Option<usize>,
    /// Show it anew every second, until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
    // Last: its heading covers all that follows.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// What to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    Created,
    LastSeen,
    Expires,
    User,
    Size,
    Id,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Session IDs, or their beginnings
    #[arg(value_name = "ID", required_unless_present = "cookie", conflicts_with = "cookie")]
    pub(crate) ids: Vec<String>,
    /// Hide values; keys, types and sizes stay
    #[arg(long)]
    pub(crate) redact: bool,
    /// Judge the cookie on standard input: its value, `name=value`, or a whole `Cookie:`
    /// or `Set-Cookie:` line
    #[arg(long, value_name = "-")]
    pub(crate) cookie: Option<String>,
    /// The cookie's name, which its signature covers; else __Host-sid and sid are tried
    #[arg(long, value_name = "NAME", requires = "cookie", conflicts_with = "ids")]
    pub(crate) cookie_name: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Sessions named by ID, as arguments or with `-` line by line on standard \
                        input, are ended without asking.")]
pub(crate) struct ExpireArgs {
    /// Session IDs, or their beginnings; `-` reads them from standard input
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Everyone's sessions
    #[arg(long, conflicts_with_all = ["ids", "user", "realm", "anonymous", "idle_for",
                                      "older_than", "newer_than"])]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
    #[command(flatten)]
    pub(crate) assent: Assent,
    #[command(flatten)]
    pub(crate) reason: Reason,
    // Last: its heading covers all that follows.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Count every session, however many there are, instead of taking a sample of a large store
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For this shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
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
pub(crate) struct PurgeArgs {
    /// Only what is over: nothing else is ever purged, and a script may say so
    #[arg(long)]
    pub(crate) expired: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
    #[command(flatten)]
    pub(crate) reason: Reason,
    // Last: its heading covers all that follows.
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
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
pub(crate) struct LogArgs {
    /// At most this many entries
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_count)]
    pub(crate) limit: Option<usize>,
}

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

/// Of a verb that puts a new key in the place of the one that signs.
#[derive(Debug, Args)]
pub(crate) struct Replacing {
    /// How long the former key verifies; else the longest idle timeout in use, so that nobody
    /// is logged out
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    pub(crate) retire_after: Option<Duration>,
    #[command(flatten)]
    pub(crate) assent: Assent,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Show the keys; secrets are never shown
    List,
    /// Sign with a new key from now on; the former one verifies for a while
    Rotate(Replacing),
    /// Sign with a key of your own from now on, as after `rotate`
    Import {
        /// A file that only its owner can read, with 32 to 64 bytes as they are, in hexadecimal or
        /// in base64
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        replacing: Replacing,
    },
    /// Refuse what a former key signed, from now on
    Retire {
        /// The key's ID, as `key list` shows it
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        assent: Assent,
        #[command(flatten)]
        reason: Reason,
    },
}
