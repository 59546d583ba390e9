//! Taking in records, and removing those that were named.

use super::super::failure;
use super::{Batch, check_size, reached};
use crate::error::Result;
use crate::record::Mark;
use crate::store::{Admission, Import, Imported, Remove, Rows, Swept, Write, admit, settled};

impl Batch<'_> {
    /// An `is_full()` or `is_too_large()` error has changed nothing.
    pub(in super::super) fn import(&mut self, import: &Import) -> Result<Imported> {
        if let Some(limit) = self.full {
            return Err(reached(limit));
        }
        import.records.iter().try_for_each(|(_, record)| check_size(record))?;
        let mut done = Imported::default();
        for (id, record) in &import.records {
            let endings = self.endings(record.user())?;
            let there = match self.get(id) {
                Ok(Some(there)) => {
                    let endings = self.endings(there.user())?;
                    Some(settled(&there, &endings, self.keep_ended)?)
                }
                Ok(None) => None,
                Err(error) if error.is_corrupt() && !failure::needs_reopening(&error) => {
                    done.conflicts.push(*id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match admit(record, there.as_ref(), &endings, self.state.generation)? {
                Admission::Same => done.same += 1,
                Admission::Ended => done.ended += 1,
                Admission::Conflict => done.conflicts.push(*id),
                Admission::Insert(after) => {
                    if after.mark() == Mark::None {
                        let timing = &mut self.state.timing;
                        timing.longest_idle = timing.longest_idle.max(after.idle_timeout());
                    }
                    self.put(&Write { id: *id, before: None, after })?;
                    done.imported += 1;
                }
            }
        }
        Ok(done)
    }

    pub(in super::super) fn remove_some(&mut self, remove: &Remove) -> Result<Swept> {
        let touch_interval = self.state.timing.touch_interval;
        let mut swept = Swept::default();
        for id in &remove.ids {
            let record = match self.get(id) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) if error.is_corrupt() => continue,
                Err(error) => return Err(error),
            };
            let endings = self.endings(record.user())?;
            if remove.covers(id, &record, &endings, touch_interval) {
                self.notes.removed(id, &record, &endings);
                self.remove(id, &record)?;
                swept.removed += 1;
            }
        }
        Ok(swept)
    }
}
