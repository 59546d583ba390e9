use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256, Sha512};

use super::*;
use crate::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn secret(n: u8) -> [u8; 32] {
    Sha256::digest([n]).into()
}

fn key(n: u8) -> Key {
    Key::from_bytes(secret(n)).unwrap()
}

/// A ring like a store's after `rotations`, an hour apart, none of them over.
fn rotated(rotations: u8) -> KeyRing {
    (0..rotations).fold(KeyRing::generate(NOW).unwrap(), |ring, n| {
        ring.rotated(NOW.saturating_add(HOUR * u32::from(n)), HOUR * 1000).unwrap()
    })
}

fn ids(ring: &KeyRing) -> Vec<KeyId> {
    ring.keys().map(Key::id).collect()
}

mod keys {
    use super::*;

    #[test]
    fn weak_secrets_are_refused() {
        let sequence = |step: u8| -> Vec<u8> { (0..32_u8).map(|i| i.wrapping_mul(step)).collect() };
        for weak in [
            vec![],
            vec![7],
            secret(1)[..31].to_vec(),
            [secret(1), secret(2), secret(3)].concat(),
            vec![0; 32],
            vec![0xff; 64],
            b"ab".repeat(16),
            b"0123456789abcdef".repeat(2),
            b"12345678901234567890123456789012".to_vec(),
            b"my-secret-key".to_vec(),
            b"my-secret-key".repeat(3),
            [b"my-secret-key".as_slice(), &[0; 19]].concat(),
            b"My-Secret-Key-that-is-long-enough-now".to_vec(),
            b"CHANGE_ME_TO_SOMETHING_RANDOM_PLEASE".to_vec(),
            b"this is an Example key, do not use it!".to_vec(),
            b"keyboard cat, keyboard dog, keyboard".to_vec(),
            b"django-insecure-3v9x#k2m1q8z7w6y5u4t".to_vec(),
            b"0123456789abcdefghijklmnopqrstuv".to_vec(),
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345".to_vec(),
            sequence(1),
            sequence(255),
            sequence(3),
            [0, 1, 2, 3, 4, 5, 6].repeat(5),
        ] {
            let error = Key::from_bytes(&weak).expect_err(&format!("{weak:?}"));
            assert!(error.is_invalid());
        }
    }

    #[test]
    fn random_secrets_in_any_writing_are_accepted() {
        for n in 0..=u8::MAX {
            let bytes = Sha512::digest([n]);
            let hex =
                bytes[..32].iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            let base64 = BASE64_URL_SAFE_NO_PAD.encode(&bytes[..32]);
            Key::from_bytes(&bytes[..32]).unwrap();
            Key::from_bytes(bytes).unwrap();
            Key::from_bytes(&hex[..32]).unwrap();
            Key::from_bytes(hex).unwrap();
            Key::from_bytes(base64).unwrap();
        }
        Key::from_bytes(secret(1).repeat(2)).unwrap();
    }

    #[test]
    fn no_error_shows_the_secret() {
        let error = Key::from_bytes("my-secret-key-my-secret-key-my-secret-key").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("my-secret-key"));
    }

    #[test]
    fn generated_keys_differ() {
        assert_ne!(Key::generate().unwrap().id(), Key::generate().unwrap().id());
    }

    #[test]
    fn the_id_is_derived_from_the_secret() {
        assert_eq!(key(1).id(), key(1).id());
        assert_ne!(key(1).id(), key(2).id());
        // Computed outside this crate.
        let longest = Key::from_bytes(Sha512::digest(b"known-answer key")).unwrap();
        assert_eq!(longest.id().to_string(), "51485e47");
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = KeyId::from_bytes([0, 0x0a, 0xbc, 0xff]);
        assert_eq!(id.to_string(), "000abcff");
        assert_eq!(format!("{id:.3}|{id:>10}"), "000|  000abcff");
        assert_eq!("000abcff".parse::<KeyId>().unwrap(), id);
        for text in ["", "000abcf", "000abcff0", "000ABCFF", "000abcfg", " 00abcff", "+00abcff"] {
            assert!(text.parse::<KeyId>().unwrap_err().is_invalid(), "{text}");
        }
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let ring = KeyRing::new([Key::from_bytes(b"Zq8#sentinel-0aB1cD2eF3gH4iJ5kL6").unwrap()]);
        let shown = format!("{ring:?}");
        assert!(!shown.contains("sentinel") && !shown.contains("115, 101, 110"), "{shown}");
        assert!(shown.contains("Key("), "{shown}");
    }

    #[test]
    fn equality_compares_the_whole_secret() {
        let mut other = secret(1);
        other[31] ^= 1;
        assert_eq!(key(1), key(1));
        assert_ne!(key(1), Key::from_bytes(other).unwrap());
        assert_ne!(key(1), Key::from_bytes([&secret(1)[..], &[0]].concat()).unwrap());
    }
}

mod changes {
    use super::*;

    #[test]
    fn the_first_key_signs_and_all_verify() {
        let ring = KeyRing::new([key(1), key(2), key(3)]).unwrap();
        assert_eq!(ring.active().id(), key(1).id());
        assert_eq!(ids(&ring), [key(1).id(), key(2).id(), key(3).id()]);
        assert_eq!(ring.active().state(), KeyState::Active);
        for retiring in ring.keys().skip(1) {
            assert_eq!(retiring.state(), KeyState::Retiring { until: Timestamp::MAX });
            assert!(retiring.verifies_at(NOW));
        }
    }

    #[test]
    fn a_ring_has_1_to_16_different_keys() {
        assert!(KeyRing::new([]).unwrap_err().is_invalid());
        assert!(KeyRing::new([key(1), key(2), key(1)]).unwrap_err().is_invalid());
        assert_eq!(KeyRing::new((0..16).map(key)).unwrap().keys().count(), 16);
        assert!(KeyRing::new((0..17).map(key)).unwrap_err().is_invalid());
        let endless = (0..=u8::MAX).cycle().map(key);
        assert!(KeyRing::new(endless).unwrap_err().is_invalid());
    }

    #[test]
    fn rotating_retires_the_former_key() {
        let first = KeyRing::generate(NOW).unwrap();
        let later = NOW.saturating_add(HOUR);
        let second = first.rotated(later, HOUR).unwrap();

        assert_ne!(second.active().id(), first.active().id());
        assert_eq!(second.active().created_at(), later);
        assert_eq!(second.version(), first.version() + 1);
        let former = second.get(first.active().id()).unwrap();
        let until = later.saturating_add(HOUR);
        assert_eq!(former.state(), KeyState::Retiring { until });
        assert_eq!(former.created_at(), NOW);
        assert!(former.verifies_at(until.saturating_sub(Duration::from_millis(1))));
        assert!(!former.verifies_at(until));
        assert_eq!(first.keys().count(), 1, "the former ring is as it was");
    }

    #[test]
    fn rotating_leaves_out_what_is_over() {
        let ring = rotated(3);
        assert_eq!(ring.keys().count(), 4);
        let much_later = NOW.saturating_add(HOUR * 2000);
        let ring_later = ring.rotated(much_later, HOUR).unwrap();
        assert_eq!(ids(&ring_later)[1..], [ring.active().id()]);
        let at_once = ring.rotated(much_later, Duration::ZERO).unwrap();
        assert_eq!(at_once.keys().count(), 1);
    }

    #[test]
    fn a_full_ring_says_so_and_stays() {
        let full = rotated(15);
        assert_eq!(full.keys().count(), KeyRing::MAX_KEYS);
        let error = full.rotated(NOW, HOUR).unwrap_err();
        assert!(error.is_full() && error.to_string().contains("16 keys"), "{error}");
        assert_eq!(full.keys().count(), KeyRing::MAX_KEYS);

        let retiring = ids(&full)[7];
        let ring = full.retired(retiring).unwrap().rotated(NOW, HOUR).unwrap();
        assert_eq!(ring.keys().count(), KeyRing::MAX_KEYS);
        assert_eq!(ring.version(), full.version() + 2);
    }

    #[test]
    fn a_rotation_to_a_key_of_the_ring_is_refused() {
        let ring = KeyRing::new([key(1), key(2)]).unwrap();
        for n in [1, 2] {
            assert!(ring.rotated_to(key(n), NOW, HOUR).unwrap_err().is_invalid());
        }
        let rotated = ring.rotated_to(key(3), NOW, HOUR).unwrap();
        assert_eq!(ids(&rotated), [key(3).id(), key(1).id(), key(2).id()]);
    }

    #[test]
    fn the_active_key_cannot_be_retired() {
        let ring = rotated(2);
        assert!(ring.retired(ring.active().id()).unwrap_err().is_invalid());
        let unknown = KeyId::from_bytes([0; 4]);
        assert!(ring.retired(unknown).unwrap_err().is_not_found());

        let [active, kept, gone] = ids(&ring)[..] else { panic!("{ring:?}") };
        let retired = ring.retired(gone).unwrap();
        assert_eq!(ids(&retired), [active, kept]);
        assert_eq!(retired.version(), ring.version() + 1);
        assert!(retired.retired(gone).unwrap_err().is_not_found());
    }

    #[test]
    fn times_at_the_limits_do_not_panic() {
        let ring = KeyRing::generate(Timestamp::MIN).unwrap();
        let ring = ring.rotated(Timestamp::MAX, Duration::MAX).unwrap();
        assert_eq!(ring.keys().count(), 1, "nothing comes after the latest instant");
        let ring = ring.rotated(Timestamp::MIN, Duration::MAX).unwrap();
        assert_eq!(ring.keys().count(), 2);
    }
}

mod stored {
    use super::*;

    fn assert_corrupt(bytes: &[u8]) {
        assert!(KeyRing::decode(bytes).is_err_and(|error| error.is_corrupt()), "{bytes:?}");
    }

    #[test]
    fn a_ring_comes_back_as_it_was() {
        let own = KeyRing::new([key(1), Key::from_bytes(Sha512::digest(b"2")).unwrap()]).unwrap();
        for ring in [KeyRing::generate(NOW).unwrap(), rotated(3), rotated(15), own] {
            let bytes = ring.encode();
            let decoded = KeyRing::decode(&bytes).unwrap();
            assert_eq!(decoded, ring);
            assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn the_layout_is_fixed() {
        let ring = KeyRing::new([key(1), key(2)]).unwrap();
        let expected = [
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 2][..],
            &[0; 8],
            &[32],
            &secret(1),
            &[0; 8],
            &i64::MAX.to_be_bytes(),
            &[32],
            &secret(2),
        ];
        assert_eq!(**ring.encode(), expected.concat());
    }

    #[test]
    fn cut_and_extended_rings_are_corrupt() {
        let bytes = rotated(2).encode();
        for len in 0..bytes.len() {
            assert_corrupt(&bytes[..len]);
        }
        assert_corrupt(&[&bytes[..], &[0]].concat());
        assert_corrupt(&[&bytes[..], &bytes[..]].concat());
    }

    #[test]
    fn broken_rings_are_corrupt_or_another_ring_but_never_panic() {
        let bytes = rotated(2).encode();
        for position in 0..bytes.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff, bytes[position] ^ 1] {
                let mut broken = bytes.to_vec();
                broken[position] = byte;
                if let Ok(ring) = KeyRing::decode(&broken) {
                    assert_eq!(**ring.encode(), broken);
                }
            }
        }
    }

    #[test]
    fn nonsense_is_corrupt() {
        assert_corrupt(&[]);
        assert_corrupt(&[1]);
        assert_corrupt(&[0; 100]);
        assert_corrupt(&[0xff; 100]);
        assert_corrupt(b"my-secret-key");

        let head = |format: u8, version: u64, count: u8| {
            let key = [&[0; 8][..], &[32], &secret(1)].concat();
            [&[format], &version.to_be_bytes()[..], &[count], &key].concat()
        };
        assert!(KeyRing::decode(&head(1, 1, 1)).is_ok());
        assert!(KeyRing::decode(&head(1, (1 << 63) - 1, 1)).is_ok());
        for (format, version, count) in
            [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 1 << 63, 1), (1, u64::MAX, 1)]
        {
            assert_corrupt(&head(format, version, count));
        }
        for count in [0, 2, 16, 17, 255] {
            assert_corrupt(&head(1, 1, count));
        }
    }

    #[test]
    fn impossible_keys_are_corrupt() {
        let ring = |secrets: &[&[u8]]| {
            let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, small(secrets.len())];
            for (i, secret) in secrets.iter().enumerate() {
                bytes.extend([0; 8].repeat(if i == 0 { 1 } else { 2 }));
                bytes.push(small(secret.len()));
                bytes.extend(*secret);
            }
            bytes
        };
        assert!(KeyRing::decode(&ring(&[&secret(1), &secret(2)])).is_ok());
        assert_corrupt(&ring(&[&secret(1), &secret(1)]));
        assert_corrupt(&ring(&[&secret(1)[..31]]));
        assert_corrupt(&ring(&[&[&secret(1)[..], &secret(2), &[1]].concat()]));
        assert_corrupt(&ring(&[&[0; 32]]));
        assert_corrupt(&ring(&[&secret(1), &[0xff; 64]]));
        let seventeen = (0..17).map(secret).collect::<Vec<_>>();
        assert_corrupt(&ring(&seventeen.iter().map(|key| &key[..]).collect::<Vec<_>>()));
    }

    fn small(count: usize) -> u8 {
        u8::try_from(count).unwrap()
    }
}
