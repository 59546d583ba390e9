//! The streams a command talks through, and what is known of the other end.

use std::io::{self, BufRead, IsTerminal, Write};

use super::args::{ColorChoice, Global};
use super::exit::{Failure, Outcome};
use super::report::escape;
use super::signals::Signals;

/// Width assumed of a terminal that does not tell.
const DEFAULT_WIDTH: u16 = 80;

/// Which streams are terminals, and of what kind.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct Screen {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// Columns of the terminal on standard output.
    pub(crate) width: u16,
    /// `NO_COLOR` is set.
    pub(crate) no_color: bool,
}

impl Screen {
    pub(crate) fn of_process() -> Self {
        let stdout = io::stdout();
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        Self {
            stdin: io::stdin().is_terminal(),
            stdout: stdout.is_terminal(),
            stderr: io::stderr().is_terminal(),
            width: size.map(|size| size.ws_col).filter(|&width| width > 0).unwrap_or(DEFAULT_WIDTH),
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        }
    }
}

/// How a word stands out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    Bold,
    Red,
    Cyan,
}

/// Standard input, output and error.
pub(crate) struct Console<'a> {
    pub(crate) program: String,
    pub(crate) stdin: &'a mut dyn BufRead,
    pub(crate) stdout: &'a mut dyn Write,
    pub(crate) stderr: &'a mut dyn Write,
    pub(crate) screen: Screen,
    pub(crate) quiet: bool,
    pub(crate) color: ColorChoice,
    pub(crate) signals: Signals,
    /// Whether a line stands on standard error that the next one is to replace.
    pub(crate) drawn: bool,
}

impl Console<'_> {
    pub(crate) fn configure(&mut self, global: &Global) {
        self.quiet = global.quiet;
        self.color = global.color;
    }

    /// Writes data.
    pub(crate) fn print(&mut self, text: &str) -> Outcome<()> {
        self.print_bytes(text.as_bytes())
    }

    /// The same, of text that was put together as bytes.
    pub(crate) fn print_bytes(&mut self, text: &[u8]) -> Outcome<()> {
        if self.screen.stdout {
            self.wipe();
        }
        Ok(self.stdout.write_all(text)?)
    }

    /// Says something that is no data and no error.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Tells what failed. Stored text in it does not reach the terminal as it is.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        if failure.what.is_empty() {
            return;
        }
        let mark = painted(self.colors(self.screen.stderr), Style::Red, "error:");
        let mut text = format!("{mark} {}", escape::lines(&failure.what));
        for more in [&failure.why, &failure.next].into_iter().flatten() {
            text.push_str("\n  ");
            text.push_str(&escape::lines(more).replace('\n', "\n  "));
        }
        self.say(&text);
    }

    /// Draws a line that stands until the next output, if a person sees it.
    pub(crate) fn draw(&mut self, line: &str) {
        if self.draws() {
            self.wipe();
            // There is nowhere left to report that standard error is closed.
            let _ = write!(self.stderr, "{line}").and_then(|()| self.stderr.flush());
            self.drawn = true;
        }
    }

    /// Whether lines that replace each other make sense on standard error.
    pub(crate) fn draws(&self) -> bool {
        self.screen.stderr && !self.quiet
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(self.stderr, "\r\x1b[K").and_then(|()| self.stderr.flush());
        }
    }

    /// Asks a question that `y` or `yes` affirms. No answer is a no.
    pub(crate) fn ask(&mut self, question: &str) -> Outcome<bool> {
        self.wipe();
        write!(self.stderr, "{} [y/N] ", escape::lines(question))?;
        self.stderr.flush()?;
        let mut answer = String::new();
        let read = self.stdin.read_line(&mut answer);
        if let Some(code) = self.signals.received() {
            // The question's line was not ended by an answer.
            writeln!(self.stderr)?;
            return Err(Failure::new(code, "interrupted; nothing was changed"));
        }
        if read.map_err(|e| unreadable(&e))? == 0 {
            writeln!(self.stderr)?;
        }
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Whether there is a person to ask.
    pub(crate) fn is_interactive(&self) -> bool {
        self.screen.stdin && self.screen.stderr
    }

    /// The text as it is to look on standard output.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        painted(self.colors(self.screen.stdout), style, text)
    }

    pub(crate) fn colors(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Auto => terminal && !self.screen.no_color,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        }
    }

    fn say(&mut self, text: &str) {
        self.wipe();
        // A person reads both in one place: what was written first stands first.
        if self.screen.stdout && self.screen.stderr {
            let _ = self.stdout.flush();
        }
        // There is nowhere left to report that standard error is closed.
        let _ = writeln!(self.stderr, "{text}").and_then(|()| self.stderr.flush());
    }
}

fn painted(colored: bool, style: Style, text: &str) -> String {
    let code = match style {
        Style::Bold => 1,
        Style::Red => 31,
        Style::Cyan => 36,
    };
    // Nothing stands out of nothing.
    if colored && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

pub(crate) fn unreadable(error: &io::Error) -> Failure {
    Failure::new(super::exit::FAILED, "standard input cannot be read").because(error.to_string())
}
