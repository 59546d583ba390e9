//! What the store's log is told of a command: who gives it, what it is about, and why.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::args::{ExpireArgs, FilterArgs, KeyVerb, StateArg, Verb};
use super::time::{Instant, When};
use crate::expiry::Timestamp;
use crate::store::{Note, SessionStore};

/// Most IDs a note names.
const MAX_IDS: usize = 16;

/// The note of a command given now by this process; `None` if it changes nothing.
pub(crate) fn of(verb: &Verb, now: Timestamp) -> Option<Note> {
    let (name, selector, reason) = match verb {
        Verb::Expire(args) if !args.dry_run.is_set => {
            ("expire", of_expire(args, now), &args.reason)
        }
        Verb::Purge(args) if !args.dry_run.is_set => {
            ("purge", of_filter(&args.filter, now).join(" "), &args.reason)
        }
        Verb::Import(args) => ("import", args.file.display().to_string(), &args.reason),
        Verb::Key(KeyVerb::Rotate(new)) => {
            ("key rotate", of_retire_after(new.retire_after), &new.reason)
        }
        // Not the file's name: it may tell where secrets are kept.
        Verb::Key(KeyVerb::Import { replacing: new, .. }) => {
            ("key import", of_retire_after(new.retire_after), &new.reason)
        }
        Verb::Key(KeyVerb::Retire { key, reason, .. }) => ("key retire", key.clone(), reason),
        _ => return None,
    };
    let reason = reason.text.clone().unwrap_or_default();
    Some(Note { selector, reason, ..by_this_process(name, now) })
}

/// A note of who runs this process.
pub(crate) fn by_this_process(verb: &str, now: Timestamp) -> Note {
    let uid = rustix::process::getuid().as_raw();
    let user = user_name(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let sudo_user = std::env::var("SUDO_USER").unwrap_or_default();
    Note { user, sudo_user, host, ..Note::new(verb, now) }
}

/// The name of the user `uid` in the text of a `passwd` file, else its number.
fn user_name(passwd: &str, uid: u32) -> String {
    let number = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    });
    name.unwrap_or(&number).to_owned()
}

fn of_retire_after(after: Option<Duration>) -> String {
    after.map(|after| format!("--retire-after {}s", after.as_secs())).unwrap_or_default()
}

fn of_expire(args: &ExpireArgs, now: Timestamp) -> String {
    let mut words: Vec<String> = args.ids.iter().take(MAX_IDS).cloned().collect();
    if args.ids.len() > MAX_IDS {
        words.push("…".into());
    }
    if args.all {
        words.push("--all".into());
    }
    words.extend(of_filter(&args.filter, now));
    words.join(" ")
}

/// The filter as it could be typed again, with instants in place of durations.
fn of_filter(filter: &FilterArgs, now: Timestamp) -> Vec<String> {
    let text = |flag: &str, value: Option<&str>| value.map(|value| format!("{flag} {value}"));
    let time = |flag: &str, when: Option<When>| {
        when.map(|when| format!("{flag} {}", Instant(when.at(now))))
    };
    let state = filter.state.as_ref().and_then(StateArg::to_possible_value);
    let mut words: Vec<String> = [
        text("--user", filter.user.as_deref()),
        text("--realm", filter.realm.as_deref()),
        filter.anonymous.then(|| "--anonymous".into()),
        time("--idle-for", filter.idle_for),
        time("--older-than", filter.older_than),
        time("--newer-than", filter.newer_than),
        text("--state", state.as_ref().map(PossibleValue::get_name)),
    ]
    .into_iter()
    .flatten()
    .collect();
    words.extend(filter.except.iter().map(|id| format!("--except {id}")));
    words
}

/// A store that counts what is changed through it in its log, if it keeps one.
pub(crate) enum Noted<'a> {
    Plain(&'a dyn SessionStore),
    Noted(Arc<dyn SessionStore>),
}

impl<'a> Noted<'a> {
    /// `matched`: how many sessions were selected, where that was counted.
    pub(crate) fn new(
        store: &'a dyn SessionStore,
        note: Option<&Note>,
        matched: Option<u64>,
    ) -> Self {
        let note = note.map(|note| Note { matched, ..note.clone() });
        match note.and_then(|note| store.noting(&note)) {
            Some(noted) => Self::Noted(noted),
            None => Self::Plain(store),
        }
    }
}

impl Deref for Noted<'_> {
    type Target = dyn SessionStore;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Plain(store) => *store,
            Self::Noted(store) => &**store,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::CommandLine;
    use clap::Parser;

    fn note(line: &str) -> Option<Note> {
        let line = CommandLine::try_parse_from(line.split(' ')).unwrap();
        of(&line.verb, Timestamp::from_millis(86_400_000))
    }

    #[test]
    fn a_note_repeats_what_was_selected_and_why() {
        let note = |line| note(line).unwrap();
        let one = note("fastsession expire --user alice --idle-for 1h --reason stolen --yes -q");
        assert_eq!((&*one.verb, &*one.reason), ("expire", "stolen"));
        assert_eq!(one.selector, "--user alice --idle-for 1970-01-01T23:00:00Z");
        assert!(!one.user.is_empty() && !one.host.is_empty());
        assert_eq!(note("fastsession revoke 01 02").selector, "01 02");
        assert_eq!(note("fastsession expire --all --except 01").selector, "--all --except 01");
        let rotation = note("fastsession key rotate --retire-after 1h");
        assert_eq!((&*rotation.verb, &*rotation.selector), ("key rotate", "--retire-after 3600s"));
        assert_eq!(note("fastsession key retire 01020304").selector, "01020304");
    }

    #[test]
    fn what_changes_nothing_is_not_noted() {
        for line in ["list", "key list", "stats", "purge -n", "expire --all -n", "inspect 01"] {
            assert_eq!(note(&format!("fastsession {line}")), None, "{line}");
        }
    }

    #[test]
    fn users_go_by_their_names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:/bin/false\n";
        assert_eq!(user_name(passwd, 33), "web");
        assert_eq!(user_name(passwd, 7), "7");
    }
}
