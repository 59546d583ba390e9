//! What a browser, or somebody in its place, sends.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::cookie::{Candidates, Sole, candidates, sole};
use crate::expiry::Timestamp;
use crate::id::SessionToken;
use crate::keyring::{Key, KeyRing, Refusal, Scope, seal, sign, token_in, unseal};
use crate::signer::TimedSigner;

const NAME: &str = "sid";
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Lines of the input are `Cookie` headers.
pub(super) fn header(input: &[u8]) {
    let headers: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
    let found = match candidates(headers.iter().copied(), NAME) {
        Candidates::Found(values) => Ok(values.to_vec()),
        Candidates::TooMany => Err("too many"),
        Candidates::TooLarge => Err("too large"),
    };
    assert_eq!(found, expected(&headers));
    match (sole(headers.iter().copied(), NAME), found.as_deref()) {
        (Sole::Nothing, Ok([])) | (Sole::Unclear, Ok([_, ..]) | Err(_)) => {}
        (Sole::Value(value), Ok([only])) => assert_eq!(value, *only),
        (sole, found) => panic!("{sole:?} of {found:?}"),
    }
    for value in found.unwrap_or_default() {
        assert!(unseal(&RING, &SCOPE, value, NOW).is_err(), "nobody signed {value:?}");
    }
}

/// The same, straight from the description: split at every semicolon, take what stands before and
/// after the first equals sign, trim spaces and tabs.
fn expected<'a>(headers: &[&'a [u8]]) -> Result<Vec<&'a [u8]>, &'static str> {
    if headers.iter().map(|header| header.len()).sum::<usize>() > 16 * 1024 {
        return Err("too large");
    }
    let mut different: Vec<&[u8]> = Vec::new();
    let mut all = 0;
    for pair in headers.iter().flat_map(|header| header.split(|&byte| byte == b';')) {
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        if let (Some(name), Some(value)) = (halves.next(), halves.next())
            && trimmed(name) == NAME.as_bytes()
        {
            all += 1;
            if !different.contains(&trimmed(value)) {
                different.push(trimmed(value));
            }
        }
    }
    if all > 4 { Err("too many") } else { Ok(different) }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(first) = text.iter().position(is_text) else { return &[] };
    let last = text.iter().rposition(is_text).unwrap_or(first);
    &text[first..=last]
}

static KEY: LazyLock<Key> =
    LazyLock::new(|| key(*b"\x8b9\x01\xc4\x17\xf2m\x90\xaa\x5c3\xdd\x0e\x71\xb8\x46"));
static RING: LazyLock<KeyRing> = LazyLock::new(|| match KeyRing::new([KEY.clone()]) {
    Ok(ring) => ring,
    Err(error) => panic!("{error}"),
});
static SCOPE: LazyLock<Scope> = LazyLock::new(|| Scope::cookie(NAME));

fn key(half: [u8; 16]) -> Key {
    let whole: Vec<u8> = half.iter().chain(half.iter().rev()).copied().collect();
    match Key::from_bytes(whole) {
        Ok(key) => key,
        Err(error) => panic!("{error}"),
    }
}

/// The input as a cookie's value, and again with the right signature under it: what passes then
/// must be spelt in the one way that the description allows.
pub(super) fn signed_value(input: &[u8]) {
    assert!(unseal(&RING, &SCOPE, input, NOW).is_err(), "nobody signed this");
    let signed = sign(&KEY, &SCOPE, input);
    match unseal(&RING, &SCOPE, &signed, NOW) {
        Ok(unsealed) => {
            let token = token_in(&signed).expect("it was unsealed");
            assert_eq!(seal(&RING, &SCOPE, &token).as_bytes(), signed, "one spelling");
            assert_eq!(unsealed.id, token.id());
            assert_eq!(unsealed.key, KEY.id());
            assert!(is_canonical(input), "{}", String::from_utf8_lossy(input));
        }
        Err(Refusal::Malformed) => assert!(!is_canonical(input), "a token was refused"),
        Err(Refusal::UnknownKey(id)) => assert_ne!(id, KEY.id()),
        Err(Refusal::BadSignature) => panic!("the signature is right"),
    }
}

/// `1`, the ID of the key, and a token that is not all zero.
fn is_canonical(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let parts: Vec<_> = text.split('.').collect();
    let [version, key, token] = parts[..] else { return false };
    let Ok(bytes) = BASE64_URL_SAFE_NO_PAD.decode(token) else { return false };
    version == "1"
        && key == KEY.id().to_string()
        && bytes.len() == SessionToken::LEN
        && bytes.iter().any(|byte| *byte != 0)
        && BASE64_URL_SAFE_NO_PAD.encode(bytes) == token
}

/// The input as a text of the timed signer, and as what such a text carries; both as they are and
/// with the right signature under them.
pub(super) fn timed_value(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(SIGNER.verify::<Vec<u64>>(text, AGE, NOW).is_err(), "nobody signed this");
        verify_signed(text);
    }
    verify_signed(&format!("1.{}", BASE64_URL_SAFE_NO_PAD.encode(input)));
    let Ok(text) = SIGNER.sign(input, NOW) else {
        assert!(input.len() > TimedSigner::MAX_LEN / 4, "a short value was refused");
        return;
    };
    assert_eq!(SIGNER.verify::<Vec<u8>>(&text, AGE, NOW).ok().as_deref(), Some(input));
}

static SIGNER: LazyLock<TimedSigner> = LazyLock::new(|| TimedSigner::new(KEY.clone()));
const AGE: Duration = Duration::from_secs(3600);

/// What the signer says of `text` with the right signature, held against the description.
fn verify_signed(text: &str) {
    let mac = BASE64_URL_SAFE_NO_PAD.encode(KEY.mac([crate::signer::LABEL, text.as_bytes()]));
    let signed = format!("{text}.{mac}");
    let read = SIGNER.verify::<Vec<u64>>(&signed, AGE, NOW);
    let body = text.strip_prefix("1.").and_then(|body| BASE64_URL_SAFE_NO_PAD.decode(body).ok());
    let body = body.filter(|_| signed.len() <= TimedSigner::MAX_LEN);
    let Some((at, value)) = body.as_ref().and_then(|body| body.split_first_chunk::<8>()) else {
        return assert!(read.is_err_and(|error| error.is_malformed()), "{text}");
    };
    let ago = i128::from(NOW.as_millis()) - i128::from(i64::from_be_bytes(*at));
    match read {
        Ok(read) => {
            assert_eq!(rmp_serde::from_slice::<Vec<u64>>(value).ok(), Some(read), "{text}");
            assert!((-60_000..3_600_000).contains(&ago), "{ago} ms ago");
        }
        Err(error) if error.is_not_yet_valid() => assert!(ago < -60_000, "{ago} ms ago"),
        Err(error) if error.is_expired() => assert!(ago >= 3_600_000, "{ago} ms ago"),
        Err(error) => {
            assert!(error.is_decode(), "{error} {text}");
            assert!(rmp_serde::from_slice::<Vec<u64>>(value).is_err(), "a value was refused");
        }
    }
}
