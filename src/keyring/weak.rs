//! Which secrets are refused as keys.
//!
//! Entropy cannot be measured on one sample. These checks only catch what has happened to others:
//! a tutorial's key in production, a zeroed buffer, a typed pattern. The thresholds are set so
//! that a random key, written as bytes, hexadecimal or base64, fails less than once in a million.

use super::Key;

/// Letters and digits of placeholders, in lower case. Six or more, so that base64 of a random key
/// does not hit one by chance.
const PLACEHOLDERS: [&str; 12] = [
    "changeme",
    "changethis",
    "default",
    "example",
    "insecure",
    "keyboardcat",
    "letmein",
    "password",
    "placeholder",
    "qwerty",
    "replaceme",
    "secret",
];

/// Fewer different bytes than this are too few for 32 bytes of any alphabet.
const MIN_DISTINCT: usize = 8;

/// What is wrong with `secret`, as the predicate of a sentence.
pub(super) fn weakness(secret: &[u8]) -> Option<&'static str> {
    if has_few_distinct_bytes(secret) {
        Some("consists of a few different bytes only")
    } else if repeats(secret) {
        Some("repeats a short pattern")
    } else if is_sequence(secret) {
        Some("is a sequence")
    } else if is_placeholder(secret) {
        Some("is a placeholder from documentation")
    } else {
        None
    }
}

/// The one check that a stored ring must pass as well, so that it will never be made stricter.
pub(super) fn has_few_distinct_bytes(secret: &[u8]) -> bool {
    let mut seen = [false; 256];
    for &byte in secret {
        seen[usize::from(byte)] = true;
    }
    seen.iter().filter(|&&seen| seen).count() < MIN_DISTINCT
}

/// Whether at least two rounds of a pattern shorter than a key make up the whole.
fn repeats(secret: &[u8]) -> bool {
    let longest = (secret.len() / 2).min(Key::MIN_LEN - 1);
    (1..=longest).any(|period| secret[period..] == secret[..secret.len() - period])
}

/// Whether one and the same step leads from most bytes to the next.
fn is_sequence(secret: &[u8]) -> bool {
    let mut steps = [0; 256];
    for pair in secret.windows(2) {
        steps[usize::from(pair[1].wrapping_sub(pair[0]))] += 1;
    }
    steps.iter().any(|&same| same > secret.len() / 2)
}

fn is_placeholder(secret: &[u8]) -> bool {
    let text: zeroize::Zeroizing<String> = secret
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect::<String>()
        .into();
    PLACEHOLDERS.iter().any(|word| text.contains(word))
}
