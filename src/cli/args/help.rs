//! What `--help` says of the tool as a whole, and the reading of a command line.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::CommandLine;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done, also when nothing matched
  1  failed
  2  usage
  3  no such session, or an ambiguous beginning of an ID
  4  in use, or no lock within --wait
  5  corruption found
  6  version mismatch
  130, 143  interrupted by Ctrl-C, by SIGTERM: what was done stays done";

/// Verbs by topic; a verb that is in none stands with the last.
const TOPICS: [(&str, &[&str]); 4] = [
    ("Sessions", &["list", "inspect", "expire", "purge", "stats", "log"]),
    ("Keys", &["key"]),
    ("File", &["init", "check", "compact", "migrate", "backup", "restore", "export", "import"]),
    ("Tool", &["completions", "man"]),
];

pub(super) const EXAMPLES: &str = "\
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
