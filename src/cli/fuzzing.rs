//! The readers of the tool, without a database.

use clap::Parser as _;

use super::args::CommandLine;
use super::report::{escape, value};

/// A stored value as `inspect` shows it.
pub(crate) fn show(value: &[u8]) -> String {
    let (shown, redacted) = (value::decode(value), value::redacted(value));
    assert_eq!(redacted.as_object().map(serde_json::Map::len), Some(2));
    escape::json(&shown.to_string())
}

/// The command line, or what the tool says about it.
pub(crate) fn parse(args: &[&str]) -> Result<(), String> {
    match CommandLine::try_parse_from(args) {
        Ok(_) => Ok(()),
        Err(error) => {
            let args: Vec<_> = args.iter().map(Into::into).collect();
            Err(super::message(&error, &args, false))
        }
    }
}
