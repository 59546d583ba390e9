//! What the verbs about sessions take.

use clap::{Args, ValueEnum};

use super::{Assent, DryRun, Reason, parse_count};
use crate::cli::time::When;

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
pub(crate) struct StatsArgs {
    /// Count every session, however many there are, instead of taking a sample of a large store
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// At most this many entries
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_count)]
    pub(crate) limit: Option<usize>,
}
