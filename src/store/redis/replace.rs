//! The commit that nearly all are: one row is replaced, and no index entry with it.
//!
//! [`Plan`](super::plan::Plan) writes the same with an interpreter of operations; the script for
//! this case has none, which is a quarter of what the server spends.

use ::redis::{Cmd, Value};
use tokio::time::Instant;

use super::Shared;
use super::layout::{self, Partition, Row, Stamp};
use super::link::Kind;
use super::plan::{self, Tried};
use super::scripts;
use super::view::View;
use crate::error::{Error, Result};
use crate::expiry::Timestamp;
use crate::random::fill_token;
use crate::record::Record;
use crate::store::Write;

/// Milliseconds of a record's deadline within which its row's time to live is left alone: well
/// within what [`plan::lifetime`] adds to the deadline.
const TURN: i64 = 6 * 3600 * 1000;

/// A row in place of another.
pub(super) struct Replacement<'a> {
    shared: &'a Shared,
    partition: Partition,
    /// Of the row that is replaced, and of the one that is written.
    before: Stamp,
    pub(super) stamp: Stamp,
    state: &'a [u8],
    key: String,
    row: Vec<u8>,
    /// `None` leaves it as it is.
    lifetime: Option<Vec<u8>>,
}

impl<'a> Replacement<'a> {
    /// `None` if more than a row is to be written, or compared.
    pub(super) fn of(
        shared: &'a Shared,
        view: &'a View,
        write: &Write,
        at: Timestamp,
    ) -> Result<Option<Self>> {
        let Some(before) = view.only_row(&write.id) else { return Ok(None) };
        if !leaves_indexes_alone(&before.record, &write.after) {
            return Ok(None);
        }
        let mut stamp = [0; layout::STAMP_BYTES];
        fill_token(&mut stamp)?;
        Ok(Some(Self {
            shared,
            partition: shared.keys.partition_of(&write.id),
            before: before.stamp,
            stamp,
            state: &view.sealed_state,
            key: shared.keys.row(&write.id),
            row: Row::seal_record(stamp, &write.id, &write.after),
            lifetime: is_due(&before.record, &write.after)
                .then(|| plan::lifetime(&write.after, at)),
        }))
    }

    /// Carries it out, if nothing it was based on has changed.
    pub(super) async fn carry_out(self, until: Instant) -> Result<Tried> {
        let Self { shared, partition, .. } = self;
        let state_key = shared.keys.state(partition);
        let once = shared.link.is_cluster().then(|| shared.keys.once(partition, self.stamp));
        let reply = shared
            .link
            .run(&scripts::REPLACING, Kind::Write, until, |command: &mut Cmd| {
                command.arg(2 + usize::from(once.is_some())).arg(&self.key).arg(&state_key);
                if let Some(once) = &once {
                    command.arg(once);
                }
                command.arg(&self.before[..]).arg(self.state).arg(&self.row[..]);
                if let Some(lifetime) = &self.lifetime {
                    command.arg(&lifetime[..]);
                }
            })
            .await?;
        match reply.value {
            Value::Int(1) => Ok(Tried::Done),
            Value::Int(_) => Ok(Tried::Changed { in_doubt: reply.in_doubt }),
            _ => Err(Error::unknown_outcome("the server's answer cannot be understood")),
        }
    }
}

/// Whether the server is to be told anew how long to keep the row. Telling costs a tenth of the
/// write; what it was told before is a day too long, so that once in six hours of activity is
/// enough. Every write decides by the row that it replaces, so that none of them skips its turn.
fn is_due(before: &Record, after: &Record) -> bool {
    let turn = |record: &Record| record.expires_at().as_millis().div_euclid(TURN);
    turn(before) != turn(after)
}

fn leaves_indexes_alone(before: &Record, after: &Record) -> bool {
    before.user() == after.user() && before.index_key() == after.index_key()
}
