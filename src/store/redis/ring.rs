//! The key ring, kept beside the sessions and followed by every process.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::layout::STORE;
use super::link::Kind;
use super::plan::{Plan, Tried};
use super::view::{array, bytes, number};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::keyring::KeyRing;
use crate::store::{KeyChange, codec};

const KEY: &[u8] = b"ring";
/// How old a ring may be that is answered without asking the server.
const RECENT: Duration = Duration::from_millis(900);
/// How old it may be in a cluster while the one node that has it cannot be reached, until a replica
/// has taken over: the sessions of all other nodes depend on it.
const STALE: Duration = Duration::from_secs(30);
/// How long a request waits for that node, and how long it is then taken for lost.
const NODE_WAIT: Duration = Duration::from_millis(250);
const LOST: Duration = Duration::from_secs(2);
/// How often the server is asked while nobody waits.
pub(super) const FOLLOW: Duration = Duration::from_millis(400);

/// The ring as it was read last.
pub(super) struct Known {
    read: Instant,
    /// When reading it again failed last, of a cluster.
    failed: Option<Instant>,
    sealed: Vec<u8>,
    /// `None` if the application holds the keys.
    ring: Option<KeyRing>,
}

impl Known {
    fn ring(&self) -> Result<KeyRing> {
        self.ring.clone().ok_or_else(keys_held_by_application)
    }
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
        let known = known.as_ref().filter(|known| {
            let is_lost = known.failed.is_some_and(|failed| failed.elapsed() < LOST);
            known.read.elapsed() < if is_lost { STALE } else { RECENT }
        })?;
        Some(known.ring())
    }

    /// The ring as it is now, or as it was while nobody can say.
    pub(super) async fn ring(&self, until: Instant) -> Result<KeyRing> {
        if !self.link.is_cluster() || !self.knows_ring() {
            return self.read_ring(until).await;
        }
        match self.read_ring(until.min(Instant::now() + NODE_WAIT)).await {
            Err(error) if error.is_unavailable() => {
                self.note_lost_ring();
                self.recent_ring().unwrap_or(Err(error))
            }
            read => read,
        }
    }

    fn knows_ring(&self) -> bool {
        self.ring.lock().as_ref().is_some_and(|known| known.read.elapsed() < STALE)
    }

    fn note_lost_ring(&self) {
        if let Some(known) = &mut *self.ring.lock() {
            known.failed = Some(Instant::now());
        }
    }

    /// Reads the ring while nobody waits for it.
    pub(super) async fn follow_ring(&self) {
        // Whoever needs it reads it then, and is told why it cannot be read.
        if self.read_ring(self.link.until()).await.is_err_and(|error| error.is_unavailable())
            && self.link.is_cluster()
        {
            self.note_lost_ring();
        }
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
        *known = Some(Known { read, failed: None, sealed, ring: ring.clone() });
        ring.ok_or_else(keys_held_by_application)
    }

    /// Makes the ring if there is none, and sees to it that server and application agree on who
    /// holds the keys.
    pub(super) async fn settle_keys(&self, until: Instant) -> Result<()> {
        let ring = seal(&KeyRing::generate(self.config.clock.now())?);
        self.make(self.keys.ring(), &ring, until).await?;
        if self.config.key_ring.is_some() {
            self.make(self.keys.held(), b"1", until).await?;
        }
        match self.read_ring(until).await {
            Err(error) if error.is_keys_held_by_application() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Writes what is not there yet. A full server refuses writing, also where there is nothing to
    /// write, and is to be opened all the same.
    async fn make(&self, key: String, value: &[u8], until: Instant) -> Result<()> {
        let mut command = ::redis::cmd("EXISTS");
        command.arg(&key);
        let reply = self.link.ask(&command, Kind::Read, until).await?;
        if number(Some(&reply.value))? == 0 {
            let mut command = ::redis::cmd("SET");
            command.arg(&key).arg(value).arg("NX");
            self.link.ask(&command, Kind::Write, until).await?;
        }
        Ok(())
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
