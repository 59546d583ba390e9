//! What a command reads, which nobody waits for once a signal came.

use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::signals::Signals;

/// How often it is looked whether a signal came while nothing does.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Reads standard input, past the buffer that the standard library keeps of it, or a file, which
/// may be a pipe.
pub(crate) struct Input<F> {
    source: F,
    signals: Signals,
}

impl<F> Input<F> {
    pub(crate) fn new(source: F, signals: Signals) -> Self {
        Self { source, signals }
    }
}

impl<F: AsFd> Read for Input<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let source = self.source.as_fd();
        loop {
            if self.signals.received().is_some() {
                return Err(io::Error::other("it was interrupted"));
            }
            let mut sources = [PollFd::new(&source, PollFlags::IN)];
            match poll(&mut sources, Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // Where it cannot be waited for, reading waits.
                _ => return Ok(rustix::io::read(source, out)?),
            }
        }
    }
}
