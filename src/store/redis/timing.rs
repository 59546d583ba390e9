//! The timeouts in use, which whoever commits makes known.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::layout::STORE;
use super::link::Kind;
use super::plan::{Plan, Tried};
use super::view::bytes;
use crate::error::Result;
use crate::store::stored::{Reader, millis};
use crate::store::{Access, Outcome, Timing, codec};

const KEY: &[u8] = b"timing";

impl Shared {
    /// The timing, and how it is stored.
    async fn stored_timing(&self, until: Instant) -> Result<(Timing, Vec<u8>)> {
        let mut command = ::redis::cmd("GET");
        command.arg(self.keys.timing());
        let reply = self.link.ask(&command, Kind::Read, until).await?;
        let sealed = bytes(Some(reply.value))?.unwrap_or_default();
        let timing = open(&sealed)?;
        self.timing.lock().widen(timing);
        Ok((timing, sealed))
    }

    pub(super) async fn timing(&self, until: Instant) -> Result<Timing> {
        Ok(self.stored_timing(until).await?.0)
    }

    /// Makes known what a commit tells of its layer, before it is carried out.
    pub(super) async fn learn_timing(
        &self,
        outcome: &Outcome,
        access: &Access,
        until: Instant,
    ) -> Result<()> {
        let Outcome::Committed(record) = outcome else { return Ok(()) };
        let told =
            Timing { longest_idle: record.idle_timeout(), touch_interval: access.touch_interval };
        if !self.timing.lock().widen_would(told) {
            return Ok(());
        }
        loop {
            let (mut timing, sealed) = self.stored_timing(until).await?;
            if !timing.widen_would(told) {
                return Ok(());
            }
            timing.widen(told);
            let mut plan = Plan::new(self, STORE, access.at)?;
            plan.expect_value(self.keys.timing(), &sealed);
            plan.put_value(self.keys.timing(), seal(timing));
            if let Tried::Done = plan.carry_out(until).await? {
                self.timing.lock().widen(timing);
                return Ok(());
            }
        }
    }
}

impl Timing {
    fn widen_would(&self, other: Self) -> bool {
        other.longest_idle > self.longest_idle || other.touch_interval > self.touch_interval
    }

    fn widen(&mut self, other: Self) {
        self.longest_idle = self.longest_idle.max(other.longest_idle);
        self.touch_interval = self.touch_interval.max(other.touch_interval);
    }
}

fn seal(timing: Timing) -> Vec<u8> {
    let mut out = millis(timing.longest_idle).to_le_bytes().to_vec();
    out.extend_from_slice(&millis(timing.touch_interval).to_le_bytes());
    codec::seal(KEY, &out)
}

fn open(sealed: &[u8]) -> Result<Timing> {
    if sealed.is_empty() {
        return Ok(Timing::default());
    }
    let mut bytes = Reader(codec::open(KEY, sealed)?);
    Ok(Timing {
        longest_idle: Duration::from_millis(bytes.u64()?),
        touch_interval: Duration::from_millis(bytes.u64()?),
    })
}
