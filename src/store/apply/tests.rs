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

fn merging(at: Timestamp, timeouts: Option<Timeouts>) -> Commit {
    let id = SessionId::from_bytes([9; SessionId::LEN]);
    let access = crate::store::Access { timeouts, ..crate::store::Access::at(at) };
    Commit { id, access, max_data_bytes: 1000, op: Op::Merge(Draft::default()) }
}

#[test]
fn a_merge_into_the_packed_record_is_the_one_by_way_of_its_header() {
    let hours = |hours: i64| Timestamp::from_millis(NOW.as_millis() + hours * 3_600_000);
    let mut drafts = [(); 7].map(|()| Draft::default());
    drafts[1].changes.set("b", vec![1]).unwrap();
    drafts[2].changes.remove("a");
    drafts[3].changes.clear();
    drafts[4].changes.set("a", vec![0xa1, b'y']).unwrap();
    drafts[5].changes.clear();
    drafts[5].changes.set("a", vec![0xa1, b'y']).unwrap();
    for key in ["a", "b"] {
        drafts[6].changes.set(key, vec![0xa1, b'y']).unwrap();
    }
    let (mut packed, mut by_header, mut in_place) = (0, 0, 0);
    for seen in [-1, 0, 2] {
        for version in [1, (1 << 24) - 2, (1 << 24) - 1, u64::MAX] {
            for (idle, late) in [(1, 0), (24, 0), (24, 100), (1 << 24, 0)] {
                let mut header = Header::new(NOW, &Timeouts::default());
                header.idle = Duration::from_secs(idle * 3600);
                (header.last_seen_at, header.version) = (hours(seen), version);
                header.user = Some("älice".into());
                header.refile();
                header.bucket += late;
                let mut before = Changes::new();
                for key in ["a", "c"] {
                    before.set(key, vec![0xa1, b'x']).unwrap();
                }
                let current = Record::changed(&header, Data::EMPTY, &before).unwrap();
                for at in [hours(-2), NOW, hours(1), hours(30), hours(1000), Timestamp::MAX] {
                    for draft in &drafts {
                        for timeouts in [None, Some(Timeouts::new(Duration::MAX, Duration::MAX))] {
                            let commit = merging(at, timeouts);
                            let wanted = repacked(&commit, &current, draft).unwrap();
                            match current.committed(seen_by(&commit, &current), &draft.changes) {
                                Some(record) => {
                                    assert_eq!(record.as_bytes(), wanted.as_bytes());
                                    assert_eq!(record.index_key(), current.index_key());
                                    packed += 1;
                                }
                                None => by_header += 1,
                            }
                            let mut alone = Record::from_bytes(current.as_bytes()).unwrap();
                            let absence = alone.absence(at, timeouts.as_ref(), &Endings::default());
                            let commit = Commit { op: Op::Merge(draft.clone()), ..commit };
                            if change_in_place(&commit, &mut alone, &Endings::default()) {
                                assert_eq!(absence, None);
                                assert_eq!(alone.as_bytes(), wanted.as_bytes());
                                assert_eq!(alone.index_key(), current.index_key());
                                in_place += 1;
                            } else {
                                assert_eq!(alone, current);
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(packed > 100 && by_header > 100, "{packed} and {by_header}");
    assert!(in_place > 20, "{in_place}");
}

#[test]
fn rule_13_a_merge_takes_over_timeouts_that_are_earlier() {
    let header = Header::new(NOW, &Timeouts::default());
    let current = Record::new(&header, Data::EMPTY).unwrap();
    let merged = |timeouts| {
        let change = merged(&merging(NOW, Some(timeouts)), &current, &Draft::default()).unwrap();
        let (Change::Data(record) | Change::To(record)) = change else { panic!("it is merged") };
        Timeouts::new(record.idle_timeout(), record.absolute_at().saturating_since(NOW))
    };
    let Timeouts { idle, absolute } = Timeouts::default();
    for shorter in [Timeouts::new(idle / 2, absolute), Timeouts::new(idle, absolute / 2)] {
        assert_eq!(merged(shorter), shorter);
    }
    assert_eq!(merged(Timeouts::new(idle * 2, absolute * 2)), Timeouts::default());
}
