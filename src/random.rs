//! Random bytes, from the operating system's generator and nowhere else.
//!
//! A system call for each new session would cost more than the rest of it. Tokens therefore come
//! out of a kilobyte that each thread has drawn ahead: every byte is handed out once and wiped
//! where it stood. What must not happen is that two processes hand out the same bytes, so that a
//! process that was forked throws away what it found. Nothing tells a program that the machine
//! under it was copied while it ran: two copies of one running virtual machine may each give the
//! next thirty visitors of a thread the same tokens. They share all signing keys and the sessions
//! in memory as well, and should be started, not copied.

use std::cell::RefCell;

use zeroize::Zeroize;

use crate::error::{Error, Kind, Result};

/// Thirty tokens.
const DRAWN_AHEAD: usize = 1024;

/// Fills `bytes` by a system call of its own: for keys, and whatever is rare.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    #[cfg(test)]
    if GENERATOR_FAILS.get() {
        bytes.fill(7);
        return Err(Error::new(Kind::Unavailable, "the test's random generator failed"));
    }
    getrandom::fill(bytes).map_err(|source| {
        Error::new(
            Kind::Unavailable,
            format!("the operating system's random generator failed: {source}"),
        )
    })
}

/// Fills `bytes`, from what this thread has drawn ahead if they are few.
pub(crate) fn fill_token(bytes: &mut [u8]) -> Result<()> {
    let ahead = AHEAD.try_with(|ahead| ahead.try_borrow_mut().map(|mut ahead| ahead.fill(bytes)));
    match ahead {
        Ok(Ok(filled)) => filled,
        // The thread is about to end.
        _ => fill_random(bytes),
    }
}

thread_local! {
    static AHEAD: RefCell<Ahead> = const { RefCell::new(Ahead::NOTHING) };
}

struct Ahead {
    bytes: [u8; DRAWN_AHEAD],
    /// How many are left, at the beginning of `bytes`.
    left: usize,
    /// Who drew them.
    process: u32,
}

impl Ahead {
    const NOTHING: Self = Self { bytes: [0; DRAWN_AHEAD], left: 0, process: 0 };

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() > DRAWN_AHEAD {
            return fill_random(bytes);
        }
        self.draw_for(bytes.len(), std::process::id())?;
        let start = self.left - bytes.len();
        let drawn = &mut self.bytes[start..self.left];
        bytes.copy_from_slice(drawn);
        drawn.zeroize();
        self.left = start;
        Ok(())
    }

    /// Draws anew unless there are enough, drawn by this very process.
    fn draw_for(&mut self, wanted: usize, process: u32) -> Result<()> {
        if self.left >= wanted && self.process == process {
            return Ok(());
        }
        self.left = 0;
        fill_random(&mut self.bytes)?;
        (self.left, self.process) = (self.bytes.len(), process);
        Ok(())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
thread_local! {
    /// Lets [`fill_random`] fail on this thread.
    pub(crate) static GENERATOR_FAILS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn security_01_no_byte_is_handed_out_twice() {
        let draw = || {
            (0..1000).map(|_| {
                let mut bytes = [0; 34];
                fill_token(&mut bytes).unwrap();
                bytes
            })
        };
        let mut seen: HashSet<_> = draw().collect();
        seen.extend(std::thread::spawn(move || draw().collect::<Vec<_>>()).join().unwrap());
        assert_eq!(seen.len(), 2000);
        // Nor is any part of one a part of another.
        let halves: HashSet<_> = seen.iter().flat_map(|bytes| bytes.chunks(17)).collect();
        assert_eq!(halves.len(), 4000);
    }

    #[test]
    fn security_01_what_was_handed_out_is_wiped() {
        let mut ahead = Ahead::NOTHING;
        let mut bytes = [0; 34];
        ahead.fill(&mut bytes).unwrap();
        assert_eq!(ahead.left, DRAWN_AHEAD - 34);
        assert_eq!(ahead.bytes[ahead.left..], [0; 34]);
        assert!(bytes.iter().any(|&byte| byte != 0));
    }

    #[test]
    fn security_01_a_forked_process_draws_its_own() {
        let mut ahead = Ahead::NOTHING;
        ahead.draw_for(34, 1).unwrap();
        let of_parent = ahead.bytes;
        ahead.draw_for(34, 1).unwrap();
        assert_eq!(ahead.bytes, of_parent);
        ahead.draw_for(34, 2).unwrap();
        assert_ne!(ahead.bytes, of_parent);
    }

    #[test]
    fn more_than_is_drawn_ahead_is_drawn_at_once() {
        let mut bytes = [0; DRAWN_AHEAD + 1];
        fill_token(&mut bytes).unwrap();
        assert!(bytes[DRAWN_AHEAD - 16..].iter().any(|&byte| byte != 0));
    }
}
