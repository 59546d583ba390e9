//! Help as a person reads it.

use crate::desk::Desk;
use crate::golden::{compare, in_pipes, on_terminal};
use crate::terminal::piped;

const VERBS: [&str; 21] = [
    "",
    "list",
    "inspect",
    "expire",
    "purge",
    "stats",
    "log",
    "key",
    "key list",
    "key rotate",
    "key import",
    "key retire",
    "init",
    "check",
    "compact",
    "migrate",
    "backup",
    "restore",
    "export",
    "import",
    "completions",
];

#[test]
fn every_verb_has_help() {
    let text = VERBS.iter().map(|verb| in_pipes(format!("{verb} --help").trim(), ""));
    compare("help", &text.collect::<String>());
}

#[test]
fn help_on_a_terminal_has_colour_unless_it_is_not_wanted() {
    let lines = ["--help", "purge --help"];
    let text = lines.iter().flat_map(|line| {
        [on_terminal(line, 100, &[]), on_terminal(line, 100, &[("NO_COLOR", "1")])]
    });
    compare("help_terminal", &text.collect::<String>());
}

#[test]
fn an_alias_is_its_verb() {
    let desk = Desk::new();
    let pairs = [
        ("ls --json", "list --json"),
        ("show 1a2b --json", "inspect 1a2b --json"),
        ("revoke 1a2b --dry-run", "expire 1a2b --dry-run"),
    ];
    for (alias, verb) in pairs {
        let run = |line: &str| {
            let args: Vec<_> = line.split(' ').collect();
            piped(desk.path(), &args, "").with_code(0).out
        };
        assert_eq!(run(alias), run(verb));
    }
}
