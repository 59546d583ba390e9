//! Ctrl-C and SIGTERM, for work that stops between two of its steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::exit::{INTERRUPTED, TERMINATED};

/// Whether the process was asked to stop. Clones share what they know.
///
/// Until [`listen`](Self::listen) is called a signal ends the process as it always does: whoever is
/// asked a question, or only reads, needs no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals(Arc<State>);

#[derive(Debug, Default)]
struct State {
    listening: AtomicBool,
    /// The number of the signal; 0 if there was none.
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Notes the first signal instead of ending the process; a second one ends it.
    pub(crate) fn listen(&self) {
        if self.0.listening.swap(true, Ordering::SeqCst) {
            return;
        }
        for (signal, number, code) in [(SIGINT, 2, INTERRUPTED), (SIGTERM, 15, TERMINATED)] {
            let again = Arc::new(AtomicBool::new(false));
            // In this order: the first signal finds `again` unset and sets it. Where a handler
            // cannot be installed, the signal ends the process, which harms no file.
            let _ = flag::register_conditional_shutdown(signal, i32::from(code), again.clone());
            let _ = flag::register(signal, again);
            let _ = flag::register_usize(signal, self.0.received.clone(), number);
        }
    }

    /// The exit code that says which signal came, if one did.
    pub(crate) fn received(&self) -> Option<u8> {
        match self.0.received.load(Ordering::Relaxed) {
            0 => None,
            2 => Some(INTERRUPTED),
            _ => Some(TERMINATED),
        }
    }

    /// Of a test, which leaves the signals of its process alone.
    #[cfg(test)]
    pub(crate) fn deaf() -> Self {
        let signals = Self::default();
        signals.0.listening.store(true, Ordering::SeqCst);
        signals
    }

    /// As if Ctrl-C had been pressed.
    #[cfg(test)]
    pub(crate) fn interrupt(&self) {
        self.0.listening.store(true, Ordering::SeqCst);
        self.0.received.store(2, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_noted_and_told_by_its_exit_code() {
        let signals = Signals::default();
        assert_eq!(signals.received(), None);
        signals.clone().interrupt();
        assert_eq!(signals.received(), Some(INTERRUPTED));
    }
}
