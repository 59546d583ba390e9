use std::collections::BTreeMap;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Rows that count how many of them are read.
struct Counted {
    rows: BTreeMap<SessionId, Record>,
    read: usize,
}

impl Counted {
    /// So many sessions of alice.
    fn new(count: u16) -> Self {
        let mut header = Header::new(NOW, &Timeouts::default());
        header.user = Some("alice".into());
        header.refile();
        let record = Record::new(&header, Data::EMPTY).unwrap();
        let id = |number: u16| {
            let mut id = [7; SessionId::LEN];
            id[..2].copy_from_slice(&number.to_be_bytes());
            SessionId::from_bytes(id)
        };
        Self { rows: (0..count).map(|number| (id(number), record.clone())).collect(), read: 0 }
    }

    fn login(&mut self, cap: SessionCap) -> Result<Applied> {
        let login = Some(Login { user: "alice".into(), cap: Some(cap) });
        let op = Op::Create { realm: None, draft: Draft::default(), login };
        let (id, access) =
            (SessionId::from_bytes([9; SessionId::LEN]), crate::store::Access::at(NOW));
        self.read = 0;
        apply(&Commit { id, access, max_data_bytes: 1, op }, self)
    }
}

impl Rows for Counted {
    fn get(&mut self, id: &SessionId) -> Result<Option<Record>> {
        self.read += 1;
        Ok(self.rows.get(id).cloned())
    }

    fn endings(&mut self, _: Option<&str>) -> Result<Endings> {
        Ok(Endings::default())
    }

    fn generation(&mut self) -> Result<u64> {
        Ok(0)
    }

    fn sessions_of(&mut self, _: &str, limit: usize) -> Result<Vec<SessionId>> {
        Ok(self.rows.keys().take(limit).copied().collect())
    }

    fn keep_ended(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn rule_19_a_login_looks_at_a_bounded_number_of_sessions() {
    let mut rows = Counted::new(5000);
    // One look is at the new session's own ID.
    assert!(rows.login(SessionCap::refuse_new(2)).unwrap_err().is_too_many_sessions());
    assert_eq!(rows.read, 1 + 2, "as many as are allowed are enough to refuse");
    let ended = rows.login(SessionCap::end_oldest(2)).unwrap().more.len();
    assert_eq!((rows.read, ended), (1 + 1024, 1024 + 1 - 2));
    let ended = rows.login(SessionCap::end_oldest(2000)).unwrap().more.len();
    assert_eq!((rows.read, ended), (1 + 4000, 4000 + 1 - 2000));
}

#[test]
fn rule_11_a_cap_counts_all_that_a_user_may_have() {
    let mut rows = Counted::new(1999);
    assert!(rows.login(SessionCap::refuse_new(2000)).is_ok());
    let mut rows = Counted::new(2000);
    assert!(rows.login(SessionCap::refuse_new(2000)).unwrap_err().is_too_many_sessions());
    assert_eq!(rows.login(SessionCap::end_oldest(2000)).unwrap().more.len(), 1);
    assert!(rows.login(SessionCap::refuse_new(usize::MAX)).is_ok());
}
