use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

use super::*;
use crate::keyring::Key;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const NAME: &str = "__Host-sid";

// Computed outside this crate, from the description of the format alone.
const KNOWN_KEY_ID: &str = "bbc8774f";
const KNOWN_COOKIE: &str = "1.bbc8774f.AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIg.\
                            XeLGJ48T8b8dIJa7q1cSByAwy63VgqfubtOpXtUeG-c";
const KNOWN_OTHER_COOKIE: &str = "1.bbc8774f.AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIg.\
                                  Y7gKoSHXw1auBhiedc61xe8RmF_9TrmdeSe3kFvUASw";
const KNOWN_HEADER: &str = "1.bbc8774f.AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIg.\
                            65QPD0MpjpQsqnQ1zlMB7Ol1dBJZKf1lIVl9OVkGpEU";

fn known_secret() -> [u8; 32] {
    Sha256::digest(b"known-answer key").into()
}

fn known_ring() -> KeyRing {
    KeyRing::new([Key::from_bytes(known_secret()).unwrap()]).unwrap()
}

fn known_token() -> SessionToken {
    SessionToken::read(|bytes| {
        *bytes = std::array::from_fn(|i| u8::try_from(i + 1).unwrap());
        true
    })
    .unwrap()
}

fn cookie() -> Scope {
    Scope::cookie(NAME)
}

fn open(value: impl AsRef<[u8]>) -> Result<Unsealed, Refusal> {
    unseal(&known_ring(), &cookie(), value.as_ref(), NOW)
}

#[track_caller]
fn assert_malformed(value: impl AsRef<[u8]>) {
    let value = value.as_ref();
    let shown = String::from_utf8_lossy(value);
    assert_eq!(open(value), Err(Refusal::Malformed), "{shown}");
}

fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// `signed`, with the right MAC of the known key.
fn signed(signed: &str) -> String {
    String::from_utf8(sign(known_ring().active(), &cookie(), signed.as_bytes())).unwrap()
}

fn parts(value: &str) -> [&str; 4] {
    value.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn with_mac(mac: &str) -> String {
    let [version, key, token, _] = parts(KNOWN_COOKIE);
    format!("{version}.{key}.{token}.{mac}")
}

#[test]
fn sealing_gives_the_known_answers() {
    let ring = known_ring();
    assert_eq!(ring.active().id().to_string(), KNOWN_KEY_ID);
    assert_eq!(seal(&ring, &cookie(), &known_token()), KNOWN_COOKIE);
    assert_eq!(seal(&ring, &Scope::cookie("sid"), &known_token()), KNOWN_OTHER_COOKIE);
    assert_eq!(seal(&ring, &Scope::header("X-Session"), &known_token()), KNOWN_HEADER);
    assert_eq!(KNOWN_COOKIE.len(), SEALED_LEN);
}

#[test]
fn a_sealed_token_is_unsealed() {
    let expected = Unsealed {
        id: known_token().id(),
        key: KNOWN_KEY_ID.parse().unwrap(),
        signed_by_active: true,
    };
    assert_eq!(open(KNOWN_COOKIE), Ok(expected));

    let ring = KeyRing::generate(NOW).unwrap();
    for _ in 0..100 {
        let token = SessionToken::generate().unwrap();
        let value = seal(&ring, &cookie(), &token);
        assert_eq!(unseal(&ring, &cookie(), value.as_bytes(), NOW).unwrap().id, token.id());
        assert_eq!(token_in(value.as_bytes()), Some(token));
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for position in 0..SEALED_LEN {
        for bit in 0..8 {
            let mut value = KNOWN_COOKIE.as_bytes().to_vec();
            value[position] ^= 1 << bit;
            assert!(open(&value).is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn every_other_byte_in_any_place_is_refused() {
    for position in 0..SEALED_LEN {
        for byte in 0..=u8::MAX {
            let mut value = KNOWN_COOKIE.as_bytes().to_vec();
            if value[position] != byte {
                value[position] = byte;
                assert!(open(&value).is_err(), "{byte:#x} at {position}");
            }
        }
    }
}

#[test]
fn truncated_and_extended_values_are_malformed() {
    for len in 0..SEALED_LEN {
        assert_malformed(&KNOWN_COOKIE[..len]);
        assert_malformed(&KNOWN_COOKIE[SEALED_LEN - len..]);
    }
    for extension in ["A", "=", "==", ".", " ", "\0", "AAAA", ".A", KNOWN_COOKIE] {
        assert_malformed(format!("{KNOWN_COOKIE}{extension}"));
        assert_malformed(format!("{extension}{KNOWN_COOKIE}"));
    }
    assert_malformed(vec![b'A'; 4097]);
    assert_malformed(vec![b'.'; SEALED_LEN]);
    assert_malformed(vec![0xff; SEALED_LEN]);
    assert_malformed("é".repeat(SEALED_LEN).as_bytes());
}

#[test]
fn only_the_canonical_last_character_is_accepted() {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let [version, key, token, mac] = parts(KNOWN_COOKIE);
    let (mut of_token, mut of_mac) = (0, 0);
    for last in ALPHABET.chars() {
        // The whole value is signed, so that only the spelling can be wrong.
        let respelt = format!("{version}.{key}.{}{last}", &token[..token.len() - 1]);
        of_token += usize::from(open(signed(&respelt)).is_ok());
        of_mac += usize::from(open(with_mac(&format!("{}{last}", &mac[..42]))).is_ok());
    }
    assert_eq!(of_token, 64 / 16, "four bits of the last character are unused");
    assert_eq!(of_mac, 1);
}

#[test]
fn other_alphabets_and_cases_are_refused() {
    let [version, key, token, mac] = parts(KNOWN_COOKIE);
    assert!(mac.contains('-'));
    assert_malformed(with_mac(&mac.replace('-', "+")));
    assert_malformed(KNOWN_OTHER_COOKIE.replace('_', "/"));
    assert_malformed(with_mac(&mac.replace('-', "%2D")));
    assert_malformed(signed(&format!("{version}.{}.{token}", key.to_uppercase())));
    assert!(open(KNOWN_COOKIE.to_lowercase()).is_err());
    assert!(open(KNOWN_COOKIE.to_uppercase()).is_err());
    assert!(open(with_mac(&mac.to_lowercase())).is_err());
}

#[test]
fn wrong_separators_and_empty_parts_are_malformed() {
    let [version, key, token, mac] = parts(KNOWN_COOKIE);
    for value in [
        format!("{version}{key}.{token}.{mac}"),
        format!("{version}.{key}{token}.{mac}"),
        format!("{version}.{key}.{token}{mac}"),
        format!("{version}..{key}.{token}.{mac}"),
        format!("{version}.{key}..{token}.{mac}"),
        format!("{version}.{key}.{token}..{mac}"),
        format!(".{key}.{token}.{mac}"),
        format!("{version}..{token}.{mac}"),
        format!("{version}.{key}..{mac}"),
        format!("{version}.{key}.{token}."),
        format!("{version}.{key}.{token}"),
        format!("{version},{key},{token},{mac}"),
        format!("{version}.{token}.{key}.{mac}"),
        token.to_owned(),
        mac.to_owned(),
        "...".to_owned(),
    ] {
        assert_malformed(value);
    }
}

#[test]
fn macs_of_other_lengths_are_malformed() {
    for len in [0, 1, 16, 20, 31, 33, 48, 64] {
        assert_malformed(with_mac(&base64(&vec![7; len])));
    }
    let [_, _, _, mac] = parts(KNOWN_COOKIE);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(mac).unwrap();
    for len in [1, 16, 20, 31] {
        assert_malformed(with_mac(&base64(&bytes[..len])));
    }
}

#[test]
fn macs_of_something_else_are_bad_signatures() {
    let [version, key, token, _] = parts(KNOWN_COOKIE);
    let signed = format!("{version}.{key}.{token}");
    let other_session = seal(&known_ring(), &cookie(), &SessionToken::generate().unwrap());
    let mut sha512 = Hmac::<Sha512>::new_from_slice(&known_secret()).unwrap();
    sha512.update(&cookie().context);
    sha512.update(signed.as_bytes());
    let sha512 = sha512.finalize().into_bytes();

    assert_malformed(with_mac(&base64(&sha512)));
    for value in [
        with_mac(&base64(&[0; 32])),
        with_mac(&base64(&[0xff; 32])),
        with_mac(parts(&other_session)[3]),
        with_mac(&base64(&sha512[..32])),
        with_mac(&base64(&known_ring().active().mac([b"", signed.as_bytes()]))),
        with_mac(&base64(&Sha256::digest(&signed))),
        KNOWN_OTHER_COOKIE.to_owned(),
        KNOWN_HEADER.to_owned(),
    ] {
        assert_eq!(open(&value), Err(Refusal::BadSignature), "{value}");
    }
}

#[test]
fn a_value_counts_only_in_its_own_scope() {
    let ring = known_ring();
    let scopes = [
        cookie(),
        Scope::cookie("__host-sid"),
        Scope::cookie("__Host-sid1"),
        Scope::cookie(""),
        Scope::header(NAME),
        Scope::header("x-session"),
    ];
    for (i, from) in scopes.iter().enumerate() {
        let value = seal(&ring, from, &known_token());
        for (j, to) in scopes.iter().enumerate() {
            assert_eq!(unseal(&ring, to, value.as_bytes(), NOW).is_ok(), i == j, "{i} in {j}");
        }
    }
    assert_eq!(Scope::header("X-Session"), Scope::header("x-session"));
}

#[test]
fn other_versions_are_malformed_even_if_signed() {
    let [_, key, token, _] = parts(KNOWN_COOKIE);
    for version in ["0", "2", "9", "", "01", "1.1", "1.2", "v1", "A", "+1", " 1"] {
        assert_malformed(signed(&format!("{version}.{key}.{token}")));
    }
}

#[test]
fn tokens_of_other_lengths_or_all_zero_are_malformed_even_if_signed() {
    for len in [0, 15, 16, 31, 32, 33, 35, 64] {
        let token = base64(&vec![7; len]);
        assert_malformed(signed(&format!("1.{KNOWN_KEY_ID}.{token}")));
    }
    let zero = base64(&[0; SessionToken::LEN]);
    assert_malformed(signed(&format!("1.{KNOWN_KEY_ID}.{zero}")));
}

#[test]
fn a_key_outside_the_ring_is_unknown() {
    let ring = KeyRing::generate(NOW).unwrap();
    let refused = unseal(&ring, &cookie(), KNOWN_COOKIE.as_bytes(), NOW);
    assert_eq!(refused, Err(Refusal::UnknownKey(KNOWN_KEY_ID.parse().unwrap())));
}

#[test]
fn another_key_of_the_ring_does_not_vouch_for_a_value() {
    let known = Key::from_bytes(known_secret()).unwrap();
    let other = Key::generate().unwrap();
    let ring = KeyRing::new([known, other.clone()]).unwrap();
    let value = KNOWN_COOKIE.replace(KNOWN_KEY_ID, &other.id().to_string());
    let refused = unseal(&ring, &cookie(), value.as_bytes(), NOW);
    assert_eq!(refused, Err(Refusal::BadSignature));
}

#[test]
fn a_retiring_key_verifies_until_its_time_is_over() {
    let hour = Duration::from_secs(3600);
    let ring = known_ring().rotated(NOW, hour).unwrap();
    let open = |at| unseal(&ring, &cookie(), KNOWN_COOKIE.as_bytes(), at);
    let end = NOW.saturating_add(hour);
    let key = KNOWN_KEY_ID.parse().unwrap();

    let last = open(end.saturating_sub(Duration::from_millis(1))).unwrap();
    assert!(!last.signed_by_active && last.key == key && last.id == known_token().id());
    assert_eq!(open(end), Err(Refusal::UnknownKey(key)));
    assert_eq!(open(Timestamp::MAX), Err(Refusal::UnknownKey(key)));

    let again = seal(&ring, &cookie(), &known_token());
    let again = unseal(&ring, &cookie(), again.as_bytes(), end).unwrap();
    assert!(again.signed_by_active && again.id == known_token().id());
}

#[test]
fn a_retired_key_is_unknown_at_once() {
    let key = KNOWN_KEY_ID.parse().unwrap();
    let ring = known_ring().rotated(NOW, Duration::MAX).unwrap().retired(key).unwrap();
    let refused = unseal(&ring, &cookie(), KNOWN_COOKIE.as_bytes(), NOW);
    assert_eq!(refused, Err(Refusal::UnknownKey(key)));
}

#[test]
fn an_applications_own_keys_all_verify_for_ever() {
    let known = Key::from_bytes(known_secret()).unwrap();
    let ring = KeyRing::new([Key::generate().unwrap(), known]).unwrap();
    for at in [Timestamp::MIN, NOW, Timestamp::from_millis(i64::MAX - 1)] {
        let unsealed = unseal(&ring, &cookie(), KNOWN_COOKIE.as_bytes(), at).unwrap();
        assert!(!unsealed.signed_by_active);
    }
}

#[test]
fn nothing_prints_the_token() {
    assert!(!format!("{:?}", open(KNOWN_COOKIE)).contains("AQID"));
}
