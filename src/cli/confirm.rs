//! Asking before what cannot be undone.

use super::console::Console;
use super::exit::{self, Failure, Outcome};

/// Fails unless `--yes` was given or a person at the terminal agrees.
pub(crate) fn confirm(console: &mut Console<'_>, question: &str, yes: bool) -> Outcome<()> {
    if yes {
        return Ok(());
    }
    if !console.is_interactive() {
        return Err(Failure::usage("there is no terminal to ask at; nothing was changed")
            .because(question)
            .next("repeat the command with --yes"));
    }
    if console.ask(question)? {
        return Ok(());
    }
    Err(Failure::new(exit::FAILED, "declined; nothing was changed"))
}
