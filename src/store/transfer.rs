//! Records on their way out of one store and into another.
//!
//! An export is complete: each record crosses with all that is stored of it. Two things are a
//! store's own and do not: where a record is filed in its index, and its generation. What a later
//! generation ended therefore leaves its store as [`settled`], marked as ended and without data,
//! and what comes in is given the generation of the store it comes to by [`admit`].

use std::time::Duration;

use crate::error::Result;
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::record::{Endings, Mark, Record};

use super::Filter;

/// Some records in full.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// In order of ID.
    pub records: Vec<(SessionId, Record)>,
    /// Where the next ones continue; `None` if there are none.
    pub next: Option<SessionId>,
    /// IDs of records met that cannot be decoded.
    pub corrupt: Vec<SessionId>,
}

/// A request to take in records.
#[derive(Clone, Debug)]
pub struct Import {
    /// Under their IDs; some hundred at a time.
    pub records: Vec<(SessionId, Record)>,
}

/// What became of an [`Import`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records that were not there and are now.
    pub imported: u64,
    /// Records that were there with the same content.
    pub same: u64,
    /// Records of sessions that are over here, since they were ended or renewed, or by the end of all
    /// sessions of their user or of everyone's, and that were therefore left out.
    pub ended: u64,
    /// IDs whose record here differs, and was kept.
    pub conflicts: Vec<SessionId>,
}

/// A request to remove records of sessions that are over.
#[derive(Clone, Debug)]
pub struct Remove {
    /// Their IDs.
    pub ids: Vec<SessionId>,
    /// Checked again in the transaction that removes them.
    pub filter: Filter,
    /// The time it is.
    pub at: Timestamp,
}

impl Remove {
    /// Whether a record is to be removed: it is over, matches, and no request running now may
    /// depend on it.
    pub fn covers(
        &self,
        id: &SessionId,
        record: &Record,
        endings: &Endings,
        touch_interval: Duration,
    ) -> bool {
        record.absence(self.at, None, endings).is_some()
            && !record.is_in_grace(self.at)
            && self.filter.matches(id, record, endings, self.at, touch_interval)
    }
}

/// The record as it leaves its store: where an ending of many ended it, it says so itself and has
/// lost its data. `keep` is how long the store keeps such headers.
pub fn settled(record: &Record, endings: &Endings, keep: Duration) -> Result<Record> {
    match (record.mark(), endings.ending(record.generation())) {
        (Mark::None, Some(ending)) => record.ended(ending.at, ending.by, keep, Duration::ZERO),
        _ => Ok(record.clone()),
    }
}

/// What is to become of a record that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is to be stored like this.
    Insert(Record),
    /// It is there.
    Same,
    /// Another record is there, and is kept.
    Conflict,
    /// Its session is over here.
    Ended,
}

/// Decides about a record that comes in, where `there` is what is stored under its ID, as
/// [`settled`]. `endings` are those that concern its user, `generation` is the store's.
///
/// A session that began before everyone's sessions, or its user's, were ended here is not brought
/// back, though its record is gone; that of a user only as long as the store has that ending, which
/// is until each record it ended says so itself. One that ended otherwise is not known any more
/// once its record is gone.
pub fn admit(
    record: &Record,
    there: Option<&Record>,
    endings: &Endings,
    generation: u64,
) -> Result<Admission> {
    if let Some(there) = there {
        return Ok(if is_same(record, there) {
            Admission::Same
        } else if there.mark() != Mark::None && record.mark() == Mark::None {
            Admission::Ended
        } else {
            Admission::Conflict
        });
    }
    let began = record.authenticated_at().unwrap_or(record.created_at());
    let ended = [endings.everyone, endings.user].into_iter().flatten().any(|end| began <= end.at);
    if ended && record.mark() == Mark::None {
        return Ok(Admission::Ended);
    }
    let mut header = record.header();
    header.generation = generation;
    header.refile();
    Record::new(&header, record.data()).map(Admission::Insert)
}

/// Whether two records say the same, wherever they are filed.
fn is_same(one: &Record, other: &Record) -> bool {
    let plain = |record: &Record| {
        let mut header = record.header();
        (header.generation, header.bucket) = (0, 0);
        header
    };
    one.data() == other.data() && plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Timeouts;
    use crate::record::{Data, EndedBy, Ending, Header};

    const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn record(generation: u64) -> Record {
        let mut header = Header::new(AT, &Timeouts::default());
        header.generation = generation;
        header.user = Some("alice".into());
        Record::new(&header, Data::EMPTY).unwrap()
    }

    fn everyone(generation: u64, at: Timestamp) -> Endings {
        let ending = Ending { generation, at, by: EndedBy::Cli };
        Endings { everyone: Some(ending), user: None }
    }

    #[test]
    fn where_a_record_is_filed_is_not_its_content() {
        let mut header = record(7).header();
        header.bucket += 1;
        let there = Record::new(&header, Data::EMPTY).unwrap();
        let admit = |record: &Record| admit(record, Some(&there), &Endings::default(), 9).unwrap();
        assert_eq!(admit(&record(0)), Admission::Same);
        header.version += 1;
        assert_eq!(admit(&Record::new(&header, Data::EMPTY).unwrap()), Admission::Conflict);
    }

    #[test]
    fn what_comes_in_has_the_generation_of_its_store() {
        let Admission::Insert(stored) = admit(&record(3), None, &Endings::default(), 9).unwrap()
        else {
            panic!("it was not admitted");
        };
        assert_eq!(stored.generation(), 9);
    }

    #[test]
    fn rule_07_what_was_ended_here_does_not_come_back() {
        let later = AT.saturating_add(Duration::from_secs(1));
        let before = AT.saturating_sub(Duration::from_secs(1));
        let admit = |endings: Endings| admit(&record(0), None, &endings, 9).unwrap();
        assert_eq!(admit(everyone(5, later)), Admission::Ended);
        assert_eq!(admit(everyone(5, AT)), Admission::Ended);
        let keep = Duration::from_secs(60);
        let there = record(0).ended(later, EndedBy::Cli, keep, Duration::ZERO).unwrap();
        let none = Endings::default();
        let admit_to = |there| super::admit(&record(0), Some(there), &none, 9).unwrap();
        assert_eq!(admit_to(&there), Admission::Ended);
        // Here it lives, there it ended: neither is the other's.
        let ended = super::admit(&there, Some(&record(0)), &none, 9).unwrap();
        assert_eq!(ended, Admission::Conflict);
        assert!(matches!(admit(everyone(5, before)), Admission::Insert(_)));
    }

    #[test]
    fn what_an_ending_of_many_ended_leaves_as_ended() {
        let settled = settled(&record(0), &everyone(1, AT), Duration::from_secs(60)).unwrap();
        assert!(matches!(settled.mark(), Mark::Ended { by: EndedBy::Cli, .. }));
        assert!(settled.data().is_empty());
    }
}
