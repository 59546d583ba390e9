use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::*;
use crate::SessionToken;
use crate::keyring::{KeyRing, Refusal, Scope, seal, unseal};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_123);
const HOUR: Duration = Duration::from_secs(3600);

// Computed outside this crate, from the description of the format alone.
const KNOWN: &str = "1.AAABi8_laHuCpHVzZXKlYWxpY2Whbgc.fkBd1ky0JvIwsrfDzgbf9N81mlzMwF1olFc1h3gOIsQ";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Ticket {
    user: String,
    n: u8,
}

fn ticket() -> Ticket {
    Ticket { user: "alice".into(), n: 7 }
}

fn key() -> Key {
    Key::from_bytes(Sha256::digest(b"known-answer key")).unwrap()
}

fn signer() -> TimedSigner {
    TimedSigner::new(key())
}

fn verify(text: &str) -> Result<Ticket, SignerError> {
    signer().verify(text, HOUR, NOW)
}

/// `body`, signed as it is.
fn signed(body: &str) -> String {
    let signed = format!("1.{body}");
    let mac = key().mac([LABEL, signed.as_bytes()]);
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
}

#[test]
fn signing_gives_the_known_answer() {
    assert_eq!(signer().sign(&ticket(), NOW).unwrap(), KNOWN);
    assert_eq!(verify(KNOWN).unwrap(), ticket());
}

#[test]
fn a_text_is_valid_for_less_than_its_maximum_age() {
    let after = |age| signer().verify::<Ticket>(KNOWN, HOUR, NOW.saturating_add(age));
    assert!(after(HOUR.checked_sub(Duration::from_millis(1)).unwrap()).is_ok());
    assert!(after(HOUR).unwrap_err().is_expired());
    assert!(after(Duration::MAX).unwrap_err().is_expired());
    let at_once = signer().verify::<Ticket>(KNOWN, Duration::ZERO, NOW);
    assert!(at_once.unwrap_err().is_expired());
}

#[test]
fn the_future_is_refused_beyond_60_seconds() {
    let before = |skew| signer().verify::<Ticket>(KNOWN, HOUR, NOW.saturating_sub(skew));
    assert!(before(Duration::from_secs(60)).is_ok());
    assert!(before(Duration::from_millis(60_001)).unwrap_err().is_not_yet_valid());
    assert!(before(Duration::MAX).unwrap_err().is_not_yet_valid());
}

#[test]
fn times_at_the_limits_do_not_panic() {
    for signed_at in [Timestamp::MIN, Timestamp::MAX] {
        let text = signer().sign(&1, signed_at).unwrap();
        for at in [Timestamp::MIN, NOW, Timestamp::MAX] {
            for max_age in [Duration::ZERO, Duration::MAX] {
                let _ = signer().verify::<u8>(&text, max_age, at);
            }
        }
        assert_eq!(signer().verify::<u8>(&text, Duration::MAX, signed_at), Ok(1));
    }
}

#[test]
fn every_flipped_bit_and_truncation_is_refused() {
    for position in 0..KNOWN.len() {
        for bit in 0..7 {
            let mut text = KNOWN.as_bytes().to_vec();
            text[position] ^= 1 << bit;
            let text = String::from_utf8(text).unwrap();
            let error = verify(&text).expect_err(&text);
            assert!(error.is_malformed() || error.is_bad_signature(), "{text}: {error}");
        }
        assert!(verify(&KNOWN[..position]).unwrap_err().is_malformed());
    }
}

#[test]
fn another_key_is_a_bad_signature() {
    let other = TimedSigner::new(Key::generate().unwrap());
    assert!(other.verify::<Ticket>(KNOWN, HOUR, NOW).unwrap_err().is_bad_signature());
}

#[test]
fn nonsense_is_malformed() {
    for text in [
        "",
        ".",
        "..",
        "1",
        "1.",
        "1..",
        "nonsense",
        "é.é.é",
        &KNOWN[2..],
        &KNOWN.replacen('1', "2", 1),
        &KNOWN.replacen("1.", "1.1.", 1),
        &KNOWN.replace('_', "/"),
        &format!("{KNOWN}="),
        &format!(" {KNOWN}"),
        &format!("{KNOWN}\n"),
        &format!("{KNOWN}.{KNOWN}"),
        &"A".repeat(TimedSigner::MAX_LEN + 1),
        &format!("1.{}", "A".repeat(1 << 20)),
        // Signed, but too short for an instant, not canonical, or of more parts.
        &signed(""),
        &signed("AAAAAAAAAA"),
        &signed("AAABi8_laHuCpHVzZXKlYWxpY2Whbgd"),
        &signed("AAABi8_laHuCpHVzZXKlYWxpY2Whbgc="),
        &signed("AAABi8_laHuC.pHVzZXKlYWxpY2Whbgc"),
    ] {
        let error = verify(text).expect_err(text);
        assert!(error.is_malformed(), "{text}: {error}");
    }
}

#[test]
fn another_shape_is_a_decode_error_that_shows_no_value() {
    let error = signer().verify::<u64>(KNOWN, HOUR, NOW).unwrap_err();
    assert!(error.is_decode());
    let text = signer().sign("sentinel", NOW).unwrap();
    let error = signer().verify::<u64>(&text, HOUR, NOW).unwrap_err();
    assert!(error.is_decode() && !format!("{error} {error:?}").contains("sentinel"));
    let nothing = signed("AAABi8_laHs");
    assert!(verify(&nothing).unwrap_err().is_decode());
}

#[test]
fn the_age_is_checked_before_the_value_is_read() {
    let late = NOW.saturating_add(HOUR);
    assert!(signer().verify::<u64>(KNOWN, HOUR, late).unwrap_err().is_expired());
}

#[test]
fn the_length_is_bounded_both_ways() {
    let sign = |len: usize| signer().sign(&"x".repeat(len), NOW);
    let longest = (0..TimedSigner::MAX_LEN).rev().find_map(|len| sign(len).ok()).unwrap();
    assert!(longest.len() > TimedSigner::MAX_LEN - 4);
    assert!(signer().verify::<String>(&longest, HOUR, NOW).is_ok());
    assert!(sign(TimedSigner::MAX_LEN).unwrap_err().is_too_large());
}

#[test]
fn what_cannot_be_encoded_is_an_error() {
    struct Unencodable;
    impl Serialize for Unencodable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    assert!(signer().sign(&Unencodable, NOW).unwrap_err().is_encode());
}

#[test]
fn a_session_cookie_is_no_signed_value_and_vice_versa() {
    let ring = KeyRing::new([key()]).unwrap();
    let scope = Scope::cookie("sid");
    let cookie = seal(&ring, &scope, &SessionToken::generate().unwrap());
    assert!(verify(&cookie).unwrap_err().is_malformed());
    let cookie_mac = cookie.rsplit_once('.').unwrap().1;
    let body = KNOWN.rsplit_once('.').unwrap().0;
    assert!(verify(&format!("{body}.{cookie_mac}")).unwrap_err().is_bad_signature());

    let signed = cookie.rsplit_once('.').unwrap().0;
    let mac = BASE64_URL_SAFE_NO_PAD.encode(key().mac([LABEL, signed.as_bytes()]));
    let refused = unseal(&ring, &scope, format!("{signed}.{mac}").as_bytes(), NOW);
    assert_eq!(refused, Err(Refusal::BadSignature));
    assert_eq!(unseal(&ring, &scope, KNOWN.as_bytes(), NOW), Err(Refusal::Malformed));
}

#[test]
fn debug_shows_no_secret() {
    assert_eq!(format!("{:?}", signer()), "TimedSigner { key: Key(bbc8774f) }");
}
