//! What a broken disk, or somebody who can write the file, hands over.

use std::time::Duration;

use crate::expiry::{Timeouts, Timestamp};
use crate::id::SessionId;
use crate::keyring::{KeyRing, KeyState};
use crate::record::{EndedBy, Endings, Record};
use crate::store::{Summary, read_values};

const INSTANTS: [Timestamp; 4] = [
    Timestamp::MIN,
    Timestamp::from_millis(0),
    Timestamp::from_millis(1_800_000_000_000),
    Timestamp::MAX,
];

/// The input as a record whose checksum is right.
pub(super) fn record(input: &[u8]) {
    read_values(input);
    let Ok(record) = Record::from_bytes(input) else { return };
    let again = Record::new(&record.header(), record.data());
    assert!(again.is_ok_and(|again| again == record), "what is read can be written");
    for (key, value) in record.data().iter() {
        assert_eq!(record.data().get(key), Some(value));
    }
    let endings = Endings::default();
    for at in INSTANTS {
        let alive = record.absence(at, Some(&Timeouts::AAL2), &endings).is_none();
        assert!(!alive || record.absence(at, None, &endings).is_none(), "a layer only shortens");
        let touched = record.touched(at);
        assert!(touched.last_seen_at() >= record.last_seen_at());
        assert_eq!(touched.absolute_at(), record.absolute_at(), "activity extends nothing");
        let summary = Summary::new(SessionId::from_bytes([1; 32]), &record, &endings, at);
        assert_eq!(summary.state, record.state(at, &endings));
        if let Ok(ended) = record.ended(at, EndedBy::Cli, Duration::MAX, Duration::ZERO) {
            assert!(ended.data().is_empty() && ended.absence(at, None, &endings).is_some());
        }
    }
}

/// The input as a stored key ring.
pub(super) fn key_ring(input: &[u8]) {
    let Ok(ring) = KeyRing::decode(input) else { return };
    assert_eq!(&*ring.encode(), input, "one spelling");
    assert!((1..=KeyRing::MAX_KEYS).contains(&ring.keys().count()));
    let active = ring.keys().filter(|key| key.state() == KeyState::Active);
    assert_eq!(active.map(crate::Key::id).collect::<Vec<_>>(), [ring.active().id()]);
    assert!(!format!("{ring:?}").contains("secret"));
    for at in INSTANTS {
        if let Ok(next) = ring.rotated(at, Duration::MAX) {
            assert!(next.version() > ring.version() && next.active().id() != ring.active().id());
        }
    }
}
