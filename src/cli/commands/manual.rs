//! `completions` and `man`: what is known of the tool, for a shell and for a reader.

use clap::CommandFactory as _;

use crate::cli::args::CommandLine;
use crate::cli::console::Console;
use crate::cli::exit::{DONE, FAILED, Failure, Outcome};

pub(crate) fn completions(shell: clap_complete::Shell, console: &mut Console<'_>) -> Outcome {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "fastsession", &mut out);
    Ok(console.stdout.write_all(&out).map(|()| DONE)?)
}

/// The page of the tool, and after it one of each verb.
pub(crate) fn pages(console: &mut Console<'_>) -> Outcome {
    let mut tool = CommandLine::command();
    tool.build();
    let mut out = Vec::new();
    let verbs = tool.get_subcommands().filter(|verb| !verb.is_hide_set());
    for command in std::iter::once(&tool).chain(verbs) {
        let page = clap_mangen::Man::new(command.clone());
        page.render(&mut out).map_err(|error| {
            Failure::new(FAILED, "the manual cannot be written").because(error.to_string())
        })?;
    }
    Ok(console.stdout.write_all(&out).map(|()| DONE)?)
}
