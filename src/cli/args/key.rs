//! What the verbs about keys take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Assent, Reason};
use crate::cli::time::parse_duration;

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
