//! Records as a broken disk, or somebody with write access, may hand them over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const AT: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const EXTREMES: [Timestamp; 5] =
    [Timestamp::MIN, Timestamp::from_millis(-1), Timestamp::from_millis(0), AT, Timestamp::MAX];

fn data() -> Vec<u8> {
    let mut changes = Changes::new();
    changes.set("a", vec![1]).unwrap();
    changes.set("key", vec![0xa3, b'o', b'n', b'e']).unwrap();
    changes.set("longer key", vec![7; 300]).unwrap();
    changes.apply(Data::EMPTY)
}

/// Every kind of record.
fn samples() -> Vec<Record> {
    let plain = Header::new(AT, &Timeouts::default());
    let full = Header {
        authenticated_at: Some(AT),
        realm: Some("admin".into()),
        user: Some("älice".into()),
        label: Some("Firefox, 203.0.113.7".into()),
        remembered: true,
        ..plain.clone()
    };
    let data = data();
    let live = Record::new(&full, Data::packed(&data)).unwrap();
    let successor = SessionId::from_bytes([9; 32]);
    vec![
        Record::new(&plain, Data::EMPTY).unwrap(),
        Record::new(&plain, Data::packed(&data)).unwrap(),
        live.ended(AT, EndedBy::Cli, Duration::from_secs(1), Duration::ZERO).unwrap(),
        live.superseded(AT, successor, Duration::from_secs(1)).unwrap(),
        live,
    ]
}

/// Does with a record all that can be done with one.
fn use_up(record: &Record) {
    let header = record.header();
    let _ = Record::new(&header, record.data());
    let _ = (format!("{record:?}"), record.size_bytes(), record.index_key());
    for (key, value) in record.data().iter() {
        assert_eq!(record.data().get(key), Some(value));
        let _ = crate::value::decode::<Vec<u64>>(key, value);
    }
    let endings = Endings::default();
    for at in EXTREMES {
        let _ = record.absence(at, Some(&Timeouts::AAL1), &endings);
        let _ = (record.state(at, &endings), record.is_in_grace(at));
        let _ = record.ended(at, EndedBy::Cap, Duration::MAX, Duration::MAX);
        let _ = record.superseded(at, SessionId::from_bytes([0; 32]), Duration::MAX);
        let touched = record.touched(at);
        assert!(touched.last_seen_at() >= record.last_seen_at());
        let _ = crate::store::Summary::new(SessionId::from_bytes([0; 32]), &touched, &endings, at);
    }
    assert!(record.without_data().data().is_empty());
}

fn assert_corrupt(bytes: &[u8]) {
    let error = Record::from_bytes(bytes).unwrap_err();
    assert!(error.is_corrupt());
    assert!(!format!("{error:?}").contains("lice"));
}

#[test]
fn rule_18_a_record_comes_back_as_it_was() {
    for record in samples() {
        assert_eq!(Record::from_bytes(record.as_bytes()).unwrap(), record);
        assert_eq!(Record::new(&record.header(), record.data()).unwrap(), record);
        use_up(&record);
    }
}

#[test]
fn rule_18_a_cut_record_is_corrupt_or_lacks_whole_entries() {
    for record in samples() {
        for end in 0..record.as_bytes().len() {
            if let Ok(cut) = Record::from_bytes(&record.as_bytes()[..end]) {
                assert_eq!(cut.header(), record.header());
                for (key, value) in cut.data().iter() {
                    assert_eq!(record.data().get(key), Some(value));
                }
            }
        }
        let fixed = form::fixed_bytes(record.as_bytes()[0]).unwrap();
        assert_corrupt(&record.as_bytes()[..fixed - 1]);
    }
    assert_corrupt(b"");
}

#[test]
fn rule_18_no_changed_byte_does_more_than_change_the_record() {
    for record in samples() {
        let mut bytes = record.as_bytes().to_vec();
        for position in 0..bytes.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                bytes[position] ^= flip;
                if let Ok(changed) = Record::from_bytes(&*bytes) {
                    use_up(&changed);
                }
                bytes[position] ^= flip;
            }
        }
    }
}

#[test]
fn rule_18_what_no_version_has_written_is_corrupt() {
    for record in samples() {
        let whole = record.as_bytes();
        for format in [0, 1, 4, 255] {
            assert_corrupt(&[&[format], &whole[1..]].concat());
        }
        assert_corrupt(&[&whole[..1], &[whole[1] | 128], &whole[2..]].concat());
        assert_corrupt(&[&whole[..1], &[whole[1] | ENDED | SUPERSEDED], &whole[2..]].concat());
        for trailing in [&[0][..], &[2], &[255; 6], &[1, b'z', 255, 255, 255, 127], &[0x80, 0, 0]] {
            assert_corrupt(&[whole, trailing].concat());
        }
    }
}

#[test]
fn rule_18_entries_are_in_order_once_and_of_text() {
    let header = Header::new(AT, &Timeouts::default());
    let head = Record::new(&header, Data::EMPTY).unwrap();
    let entry = |key: &[u8]| [&[u8::try_from(key.len()).unwrap()], key, &[1, 7]].concat();
    let with = |entries: &[&[u8]]| {
        let entries: Vec<_> = entries.iter().map(|key| entry(key)).collect();
        [head.as_bytes(), &entries.concat()].concat()
    };
    assert!(Record::from_bytes(with(&[b"", b"a", b"b"])).is_ok());
    for entries in [&[&b"b"[..], b"a"], &[b"a", b"a"], &[b"a", b"\xff"]] {
        assert_corrupt(&with(entries));
    }
    let too_long = vec![b'k'; 255 + 2];
    let mut long = vec![0x81, 2];
    long.extend_from_slice(&too_long);
    long.push(0);
    assert_corrupt(&[head.as_bytes(), &long].concat());
}

#[test]
fn rule_18_a_text_longer_than_any_that_is_written_is_corrupt() {
    let named = |realm: usize, user: usize, label: usize| {
        let text = |len: usize| Some("x".repeat(len).into());
        let mut header = Header::new(AT, &Timeouts::default());
        (header.realm, header.user, header.label) = (text(realm), text(user), text(label));
        header
    };
    let longest = named(MAX_REALM_BYTES, MAX_USER_BYTES, MAX_LABEL_BYTES);
    let record = Record::new(&longest, Data::EMPTY).unwrap();
    assert_eq!(Record::from_bytes(record.as_bytes()).unwrap(), record);
    for too_long in [
        named(MAX_REALM_BYTES + 1, 1, 1),
        named(1, MAX_USER_BYTES + 1, 1),
        named(1, 1, MAX_LABEL_BYTES + 1),
    ] {
        assert!(Record::new(&too_long, Data::EMPTY).unwrap_err().is_too_large());
        let mut bytes = Vec::new();
        too_long.encode(&mut bytes);
        assert_corrupt(&bytes);
    }
}

#[test]
fn rule_15_instants_at_the_limits_panic_nothing() {
    for created_at in EXTREMES {
        for deadline in EXTREMES {
            let mut header = Header::new(created_at, &Timeouts::new(Duration::MAX, Duration::MAX));
            header.absolute_at = deadline;
            header.authenticated_at = Some(deadline);
            header.last_seen_at = deadline;
            header.version = u64::MAX;
            header.generation = u64::MAX;
            header.refile();
            let record = Record::new(&header, Data::packed(&data())).unwrap();
            assert_eq!(record.header().created_at, created_at);
            use_up(&record);
            assert!(record.absence(deadline, None, &Endings::default()).is_some());
        }
    }
}

#[test]
fn changes_do_to_packed_data_what_they_do_to_a_map() {
    const KEYS: [&str; 4] = ["a", "ab", "b", "c"];
    // For each key: stored or not (a bit); untouched, set or removed (a digit of base three).
    for stored in 0..16_usize {
        let mut before = Changes::new();
        let mut map = BTreeMap::new();
        for (place, key) in KEYS.into_iter().enumerate().filter(|(at, _)| stored >> at & 1 == 1) {
            before.set(key, vec![0; place]).unwrap();
            map.insert(key, vec![0; place]);
        }
        let before = before.apply(Data::EMPTY);
        for way in 0..2 * 3_usize.pow(4) {
            let (mut changes, mut map) = (Changes::new(), map.clone());
            if way % 2 == 1 {
                changes.clear();
                map.clear();
            }
            for (place, key) in KEYS.into_iter().enumerate().rev() {
                match way / 2 / 3_usize.pow(u32::try_from(place).unwrap()) % 3 {
                    0 => {}
                    1 => {
                        changes.set(key, vec![1; 9 - place]).unwrap();
                        map.insert(key, vec![1; 9 - place]);
                    }
                    _ => {
                        changes.remove(key);
                        map.remove(key);
                    }
                }
            }
            let after = changes.apply(Data::packed(&before));
            let after = Data::validate(&after).unwrap();
            let expected: Vec<_> = map.iter().map(|(key, value)| (*key, &**value)).collect();
            assert_eq!(after.iter().collect::<Vec<_>>(), expected, "{stored} {way}");
        }
    }
}

#[test]
fn changes_that_were_committed_are_not_pending_any_more() {
    let set = |changes: &mut Changes, key| changes.set(key, vec![1]).unwrap();
    let mut committed = Changes::new();
    set(&mut committed, "same");
    set(&mut committed, "other");
    committed.remove("removed");
    let mut pending = committed.clone();
    pending.settle(&committed);
    assert!(pending.is_empty());
    pending = committed.clone();
    pending.set("other", vec![2]).unwrap();
    set(&mut pending, "removed");
    set(&mut pending, "new");
    pending.settle(&committed);
    assert_eq!(pending.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["new", "other", "removed"]);
    pending = committed.clone();
    pending.clear();
    pending.settle(&committed);
    assert!(pending.is_clear(), "a clear after the commit clears what was committed");
    pending = committed.clone();
    for key in ["same", "removed"] {
        pending.forget(key);
    }
    pending.settle(&committed);
    assert_eq!(pending.iter().collect::<Vec<_>>(), [("same", None)], "it is stored now");
}

/// A record of the wide form, and the least change that takes it.
fn wide(change: impl FnOnce(&mut Header)) -> Record {
    let mut header = Header::new(AT, &Timeouts::default());
    header.authenticated_at = Some(AT);
    change(&mut header);
    let record = Record::new(&header, Data::packed(&data())).unwrap();
    assert!(form::is_wide(record.as_bytes()));
    assert_eq!(record.header(), header);
    record
}

#[test]
fn rule_18_what_does_not_fit_the_compact_form_comes_back_from_the_wide_one() {
    let earlier = AT.saturating_sub(Duration::from_millis(1));
    let long = Duration::from_secs(1 << 24);
    for record in [
        wide(|header| header.last_seen_at = earlier),
        wide(|header| header.absolute_at = earlier),
        wide(|header| header.authenticated_at = Some(earlier)),
        wide(|header| header.created_at = Timestamp::from_millis(-1)),
        wide(|header| header.absolute_at = AT.saturating_add(Duration::from_millis(1 << 40))),
        wide(|header| header.idle = long),
        wide(|header| header.version = 1 << 24),
        wide(|header| header.generation = 1 << 24),
        wide(|header| header.bucket += 1 << 15),
    ] {
        assert_eq!(Record::from_bytes(record.as_bytes()).unwrap(), record);
        use_up(&record);
    }
}

#[test]
fn rule_18_no_record_has_a_second_spelling() {
    for record in samples() {
        let header = record.header();
        let mut bytes = vec![form::WIDE, record.as_bytes()[1]];
        header.encode_wide(&mut bytes);
        let rest = form::optional_fields(record.as_bytes());
        bytes.extend_from_slice(&record.as_bytes()[rest..]);
        assert!(!form::is_wide(record.as_bytes()));
        assert_corrupt(&bytes);
    }
}

#[test]
fn a_touch_gives_the_record_that_writing_it_anew_gives() {
    let hours = |hours: u64| AT.saturating_add(Duration::from_secs(hours * 3600));
    let stepped_back = wide(|header| header.last_seen_at = hours(0).saturating_sub(Duration::MAX));
    for record in samples().into_iter().chain([stepped_back]) {
        for at in [hours(1), hours(100), hours(9000), hours(500_000), Timestamp::MAX] {
            let touched = record.touched(at);
            let mut header = record.header();
            header.last_seen_at = at.max(record.last_seen_at());
            assert_eq!(touched, Record::new(&header, record.data()).unwrap());
            assert_eq!(touched.bucket(), record.bucket(), "a touch writes no index");
        }
    }
}

#[test]
fn a_commit_in_place_gives_the_record_that_a_commit_beside_it_gives() {
    let later = AT.saturating_add(Duration::from_secs(3600));
    let mut in_place = 0;
    for record in samples().into_iter().filter(|record| record.mark() == Mark::None) {
        for (key, value) in [
            ("a", vec![2]),
            ("longer key", vec![8; 300]),
            ("a", vec![8; 300]),
            ("a", vec![]),
            ("b", vec![2]),
        ] {
            for at in [AT, later] {
                let mut changes = Changes::new();
                changes.set(key, value.clone()).unwrap();
                let mut header = record.header();
                (header.version, header.last_seen_at) = (header.version + 1, at);
                let expected = Record::changed(&header, record.data(), &changes).unwrap();
                assert_eq!(record.committed(at, &changes).as_ref(), Some(&expected));

                let place = changes.in_place(record.data()).map(|(place, _)| place);
                let is_as_long =
                    record.data().get(key).is_some_and(|before| before.len() == value.len());
                assert_eq!(place.is_some(), is_as_long);
                let Some(place) = place else { continue };
                let mut alone = Record { bytes: Arc::from(record.as_bytes()) };
                let held = alone.clone();
                assert!(alone.is_shared() && !alone.write_in_place(at, place.clone(), &value));
                assert_eq!(alone, record, "somebody else has it");
                drop(held);
                assert!(!alone.is_shared() && alone.write_in_place(at, place, &value));
                assert_eq!(alone, expected);
                in_place += 1;
            }
        }
    }
    assert_eq!(in_place, 2 * 2 * 2, "two values of two records, with and without activity");
}
