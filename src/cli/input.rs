//! Standard input, which nobody waits for once a signal came.

use std::io::{self, Read, Stdin};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::signals::Signals;

/// How often it is looked whether a signal came while nothing does.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Reads standard input, past the buffer that the standard library keeps of it.
pub(crate) struct Input {
    stdin: Stdin,
    signals: Signals,
}

impl Input {
    pub(crate) fn new(signals: Signals) -> Self {
        Self { stdin: io::stdin(), signals }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let stdin = self.stdin.as_fd();
        loop {
            if self.signals.received().is_some() {
                return Err(io::Error::other("it was interrupted"));
            }
            let mut sources = [PollFd::new(&stdin, PollFlags::IN)];
            match poll(&mut sources, Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // Where it cannot be waited for, reading waits.
                _ => return Ok(rustix::io::read(stdin, out)?),
            }
        }
    }
}
