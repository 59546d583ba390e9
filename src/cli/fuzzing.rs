//! The readers of the tool, without a database.

use std::cell::RefCell;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::args::CommandLine;
use super::lines::{Keys, Line, Session};
use super::report::{escape, value};
use crate::record::Record;

/// A stored value as `inspect` shows it.
pub(crate) fn show(value: &[u8]) -> String {
    let (shown, redacted) = (value::decode(value), value::redacted(value));
    assert_eq!(redacted.as_object().map(serde_json::Map::len), Some(2));
    escape::json(&shown.to_string())
}

/// The command line, or what the tool says about it.
pub(crate) fn parse(args: &[&str]) -> Result<(), String> {
    // Building it anew for each input takes longer than all the rest.
    thread_local! {
        static COMMAND: RefCell<clap::Command> = RefCell::new(CommandLine::command());
    }
    let parsed = COMMAND.with_borrow_mut(|command| {
        let mut matches = command.try_get_matches_from_mut(args)?;
        CommandLine::from_arg_matches_mut(&mut matches).map_err(|error| error.format(command))
    });
    match parsed {
        Ok(_) => Ok(()),
        Err(error) => {
            let args: Vec<_> = args.iter().map(Into::into).collect();
            Err(super::message(&error, &args, false))
        }
    }
}

/// A line of an export, as it is exported again from what is taken in; `None` if it is refused.
pub(crate) fn import(line: &[u8]) -> Option<String> {
    let line = match serde_json::from_slice(line).ok()? {
        Line::Session(session) => {
            let (id, record) = session.to_record().ok()?;
            assert_eq!(Record::from_bytes(record.as_bytes()).ok().as_ref(), Some(&record));
            Line::Session(Box::new(Session::new(id, &record)))
        }
        Line::Keys(keys) => Line::Keys(Keys::new(&keys.to_ring().ok()?)),
        other => other,
    };
    serde_json::to_string(&line).ok()
}
