//! Work that may take longer than a second: how far it is, and how to stop it.
//!
//! A command that works in steps begins [`Work`] and reports each step to it; one that waits for a
//! call on the whole file follows what that tells of itself. After the first second a person at a
//! terminal sees how far it is, how fast, and how long it will take. Ctrl-C and SIGTERM are noted
//! from the beginning on: the command stops before its next step, with what is done done, and says
//! so with [`Work::stopped`].

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::console::Console;
use super::exit::Failure;
use super::report;
use super::signals::Signals;
use crate::store::{Progress, Step};

/// Nothing is drawn for what is done by then.
const QUIET_FOR: Duration = Duration::from_secs(1);
const REDRAWN_EVERY: Duration = Duration::from_millis(100);
/// Columns of the bar.
const BAR: u8 = 24;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Rows,
    Bytes,
}

/// A command's work in hand.
pub(crate) struct Work {
    doing: &'static str,
    unit: Unit,
    total: Option<u64>,
    /// Between 0 and 1, where that is known though the total is not.
    part: Option<f64>,
    done: u64,
    began: Instant,
    /// When what is done now began.
    step_began: Instant,
    drawn: Instant,
    signals: Signals,
}

impl Work {
    /// `doing` is what a person reads: `purging`.
    pub(crate) fn begin(console: &Console<'_>, doing: &'static str, unit: Unit) -> Self {
        console.signals.listen();
        let (began, signals) = (Instant::now(), console.signals.clone());
        let (step_began, drawn) = (began, began);
        Self { doing, unit, total: None, part: None, done: 0, began, step_began, drawn, signals }
    }

    /// The same, where it is known how much there is to do.
    pub(crate) fn of(mut self, total: u64) -> Self {
        self.total = Some(total);
        self
    }

    /// Says how much of it is done, between 0 and 1, where no total is known.
    pub(crate) fn reach(&mut self, part: f64) {
        self.part = Some(part.clamp(0.0, 1.0));
    }

    /// One more step is done: `by` more. Breaks if it was the last one, because of a signal.
    pub(crate) fn advance(&mut self, console: &mut Console<'_>, by: u64) -> ControlFlow<()> {
        self.done += by;
        self.draw(console);
        self.goes_on()
    }

    /// Takes over how far a call on the whole file is. Breaks because of a signal.
    pub(crate) fn follow(&mut self, console: &mut Console<'_>, call: &Progress) -> ControlFlow<()> {
        if let Some((step, done, total)) = call.now() {
            let (doing, unit) = shown(step);
            if self.doing != doing {
                (self.doing, self.unit, self.step_began) = (doing, unit, Instant::now());
            }
            (self.done, self.total) = (done, Some(total));
            self.draw(console);
        }
        self.goes_on()
    }

    /// Breaks if a signal came.
    pub(crate) fn goes_on(&self) -> ControlFlow<()> {
        match self.signals.received() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }

    fn draw(&mut self, console: &mut Console<'_>) {
        let now = Instant::now();
        let is_due = now - self.began >= QUIET_FOR && now - self.drawn >= REDRAWN_EVERY;
        if is_due && console.draws() {
            self.drawn = now;
            let line = self.line(now - self.step_began, usize::from(console.screen.width));
            console.draw(&line);
        }
    }

    /// The failure of a command whose call on the whole file a signal stopped. `kept` says what is
    /// as it was.
    pub(crate) fn cancelled(&self, kept: &str) -> Failure {
        let far = match self.total {
            Some(total) => {
                let amount = |value| self.amount(value);
                format!(", {} of {} done", amount(self.done.min(total)), amount(total))
            }
            None => String::new(),
        };
        let code = self.signals.received().unwrap_or(super::exit::INTERRUPTED);
        Failure::new(code, format!("interrupted while {}{far}", self.doing))
            .because(kept)
            .next("repeat the command to begin again")
    }

    /// The failure of a command that a signal stopped. `done` says how far it came, `next` how to
    /// go on.
    pub(crate) fn stopped(&self, done: &str, next: &str) -> Failure {
        let code = self.signals.received().unwrap_or(super::exit::INTERRUPTED);
        Failure::new(code, format!("interrupted: {done}"))
            .because("what was done stays done, the rest is as it was")
            .next(next)
    }

    fn line(&self, elapsed: Duration, width: usize) -> String {
        let amount = |value| self.amount(value);
        let rate = rate(self.done, elapsed);
        let part = match self.total {
            #[allow(clippy::cast_precision_loss, reason = "drawn with two digits")]
            Some(total) if total > 0 => Some((self.done as f64 / total as f64).min(1.0)),
            _ => self.part,
        };
        let far = part.map(|part| format!("{}  {:>3.0}%  ", bar(part), part * 100.0));
        let total = self.total.map(|total| format!(" of {}", amount(total)));
        let left = part.filter(|part| *part > 0.01).map(|part| {
            let left = elapsed.mul_f64((1.0 - part) / part);
            format!("  {} left", duration(left))
        });
        let line = format!(
            "{} {}{}{}  {}/s{}",
            self.doing,
            far.unwrap_or_default(),
            amount(self.done),
            total.unwrap_or_default(),
            amount(rate),
            left.unwrap_or_default()
        );
        // The last column stays free, so that no terminal wraps the line.
        line.chars().take(width.saturating_sub(1)).collect()
    }

    fn amount(&self, value: u64) -> String {
        match self.unit {
            Unit::Rows => grouped(value),
            Unit::Bytes => report::size(value),
        }
    }
}

/// What a person reads of it.
fn shown(step: Step) -> (&'static str, Unit) {
    match step {
        Step::Copying => ("copying", Unit::Bytes),
        Step::Comparing => ("comparing rows", Unit::Rows),
        Step::Writing => ("writing records", Unit::Rows),
        // Also what a later version may add.
        _ => ("verifying pages", Unit::Bytes),
    }
}

fn rate(done: u64, elapsed: Duration) -> u64 {
    let per_second = u128::from(done) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

fn bar(part: f64) -> String {
    let place = (1..=BAR).take_while(|place| f64::from(*place) <= part * f64::from(BAR));
    let full = place.count();
    format!("[{}{}]", "#".repeat(full), ".".repeat(usize::from(BAR) - full))
}

/// `1,234,567`.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1m05s`, to the second.
fn duration(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::ColorChoice;
    use crate::cli::console::Screen;
    use crate::cli::exit::INTERRUPTED;

    fn with_console<T>(screen: Screen, run: impl FnOnce(&mut Console<'_>) -> T) -> (T, String) {
        let mut stderr = Vec::new();
        let mut console = Console {
            program: "fastsession".into(),
            stdin: &mut std::io::empty(),
            stdout: &mut std::io::sink(),
            stderr: &mut stderr,
            screen,
            quiet: false,
            color: ColorChoice::Auto,
            signals: Signals::default(),
            drawn: false,
        };
        // No handler is installed in the test's process.
        console.signals.interrupt();
        let result = run(&mut console);
        (result, String::from_utf8(stderr).unwrap())
    }

    fn long_ago(mut work: Work) -> Work {
        work.began -= Duration::from_secs(10);
        (work.drawn, work.step_began) = (work.began, work.began);
        work
    }

    #[test]
    fn a_person_sees_how_far_how_fast_and_how_long() {
        let screen = Screen { stderr: true, width: 80, ..Screen::default() };
        let ((), seen) = with_console(screen, |console| {
            let mut work = long_ago(Work::begin(console, "purging", Unit::Rows).of(40_000));
            let _ = work.advance(console, 10_000);
            console.note("removed");
        });
        let line = "purging [######..................]   25%  10,000 of 40,000  1,000/s  30s left";
        assert!(seen.starts_with(&line[..40]), "{seen:?}");
        assert!(seen.ends_with("\r\x1b[Kremoved\n"), "{seen:?}");
    }

    #[test]
    fn a_narrow_terminal_gets_one_line() {
        let screen = Screen { stderr: true, width: 20, ..Screen::default() };
        let ((), seen) = with_console(screen, |console| {
            let mut work = long_ago(Work::begin(console, "exporting", Unit::Bytes));
            work.reach(0.5);
            let _ = work.advance(console, 1 << 30);
        });
        assert_eq!(seen.chars().count(), 19, "{seen:?}");
    }

    #[test]
    fn nobody_else_sees_anything() {
        let ((), seen) = with_console(Screen::default(), |console| {
            let mut work = long_ago(Work::begin(console, "purging", Unit::Rows));
            let _ = work.advance(console, 1);
        });
        assert_eq!(seen, "");
    }

    #[test]
    fn a_signal_stops_it_before_the_next_step() {
        let (failure, _) = with_console(Screen::default(), |console| {
            let mut work = Work::begin(console, "purging", Unit::Rows);
            assert!(work.goes_on().is_break() && work.advance(console, 1).is_break());
            work.stopped("removed 1 session", "repeat the command to go on")
        });
        assert_eq!(failure.code, INTERRUPTED);
        assert_eq!(failure.what, "interrupted: removed 1 session");
    }

    #[test]
    fn a_call_on_the_whole_file_is_followed_from_step_to_step() {
        let screen = Screen { stderr: true, width: 80, ..Screen::default() };
        let (failure, seen) = with_console(screen, |console| {
            let mut work = long_ago(Work::begin(console, "checking", Unit::Rows));
            let call = Progress::default();
            assert!(work.follow(console, &call).is_break());
            assert!(work.cancelled("kept").what.ends_with("interrupted while checking"));
            call.begin(Step::Verifying, 8 << 20);
            call.advance(2 << 20).unwrap();
            assert!(work.follow(console, &call).is_break());
            work.cancelled("the file is as it was")
        });
        assert!(seen.starts_with("verifying pages [######"), "{seen:?}");
        assert_eq!(failure.what, "interrupted while verifying pages, 2.0 MiB of 8.0 MiB done");
    }

    #[test]
    fn amounts_and_times_are_short() {
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1,234,567"]);
        let shown = [5, 65, 7300].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(shown, ["5s", "1m05s", "2h01m"]);
    }
}
