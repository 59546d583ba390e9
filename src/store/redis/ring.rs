//! The key ring, kept beside the sessions and followed by every process.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::layout::STORE;
use super::link::Kind;
use super::plan::{Plan, Tried};
use super::view::{array, bytes};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::keyring::KeyRing;
use crate::store::{KeyChange, codec};

const KEY: &[u8] = b"ring";
/// How old a ring may be that is answered without asking the server.
const RECENT: Duration = Duration::from_millis(900);
/// How often the server is asked while nobody waits.
pub(super) const FOLLOW: Duration = Duration::from_millis(400);

/// The ring as it was read last.
pub(super) struct Known {
    read: Instant,
    sealed: Vec<u8>,
    /// `None` if the application holds the keys.
    ring: Option<KeyRing>,
}

pub(super) fn keys_held_by_application() -> Error {
    Error::new(
        ErrorKind::KeysHeldByApplication,
        "the application holds the keys: it passes its own key ring, the store's is not used",
    )
}

impl Shared {
    /// The ring read a moment ago.
    pub(super) fn recent_ring(&self) -> Option<Result<KeyRing>> {
        let known = self.ring.lock();
        let known = known.as_ref().filter(|known| known.read.elapsed() < RECENT)?;
        Some(known.ring.clone().ok_or_else(keys_held_by_application))
    }

    /// The ring as it is now.
    pub(super) async fn read_ring(&self, until: Instant) -> Result<KeyRing> {
        let read = Instant::now();
        let mut command = ::redis::cmd("MGET");
        command.arg(self.keys.ring()).arg(self.keys.held());
        let reply = self.link.ask(&command, Kind::Read, until).await?;
        let mut parts = array(reply.value)?.into_iter();
        let sealed = bytes(parts.next())?.unwrap_or_default();
        let held = bytes(parts.next())?.is_some();
        let mut known = self.ring.lock();
        let same = known.as_ref().filter(|known| known.sealed == sealed);
        let ring = match same.and_then(|known| known.ring.clone()) {
            _ if held => None,
            Some(ring) => Some(ring),
            None => Some(open(&sealed)?),
        };
        *known = Some(Known { read, sealed, ring: ring.clone() });
        ring.ok_or_else(keys_held_by_application)
    }

    /// Makes the ring if there is none, and sees to it that server and application agree on who
    /// holds the keys.
    pub(super) async fn settle_keys(&self, until: Instant) -> Result<()> {
        let at = self.config.clock.now();
        let mut command = ::redis::cmd("SET");
        command.arg(self.keys.ring()).arg(seal(&KeyRing::generate(at)?)).arg("NX");
        self.link.ask(&command, Kind::Write, until).await?;
        if self.config.key_ring.is_some() {
            let mut command = ::redis::cmd("SET");
            command.arg(self.keys.held()).arg(1);
            self.link.ask(&command, Kind::Write, until).await?;
        }
        match self.read_ring(until).await {
            Err(error) if error.is_keys_held_by_application() => Ok(()),
            result => result.map(drop),
        }
    }

    pub(super) async fn change_keys(&self, change: KeyChange, until: Instant) -> Result<KeyRing> {
        let mut doubts: Vec<KeyRing> = Vec::new();
        loop {
            let before = self.read_ring(until).await?;
            // Sent twice, the first may have been carried out: the keys are random.
            let made = |doubt: &&KeyRing| doubt.version() == before.version() && **doubt == before;
            if let Some(done) = doubts.iter().find(made) {
                return Ok(done.clone());
            }
            let longest_idle = self.timing(until).await?.longest_idle;
            let after = change.clone().apply(&before, longest_idle)?;
            let mut plan = Plan::new(self, STORE, self.config.clock.now())?;
            plan.expect_value(self.keys.ring(), &seal(&before));
            plan.put_value(self.keys.ring(), seal(&after));
            match plan.carry_out(until).await? {
                Tried::Done => {
                    *self.ring.lock() = None;
                    return Ok(after);
                }
                Tried::Changed { in_doubt } => doubts.extend(in_doubt.then_some(after)),
            }
        }
    }
}

fn seal(ring: &KeyRing) -> Vec<u8> {
    codec::seal(KEY, &ring.encode())
}

fn open(sealed: &[u8]) -> Result<KeyRing> {
    if sealed.is_empty() {
        return Err(Error::new(ErrorKind::Corrupt, "the store has no signing keys"));
    }
    KeyRing::decode(codec::open(KEY, sealed)?)
}
