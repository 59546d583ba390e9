//! What the command-line tool reads and shows.

use crate::cli::fuzzing;

/// The input as a stored value, which the tool shows.
pub(super) fn value(input: &[u8]) {
    let text = fuzzing::show(input);
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&text) {
        // A reader of its own with a bound of its own, lower than the one on what is shown.
        assert!(error.to_string().starts_with("recursion limit"), "{error}: {text}");
    }
    // Reading must not cost more than a multiple of what is read.
    assert!(text.len() <= 64 + 64 * input.len(), "{} bytes of {}", text.len(), input.len());
}

/// The input as arguments, one on each line.
pub(super) fn arguments(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let words: Vec<_> = std::iter::once("fastsession").chain(text.split('\n')).collect();
    if let Err(message) = fuzzing::parse(&words) {
        let strange = message.chars().find(|c| c.is_control() && *c != '\n');
        assert!(strange.is_none(), "{strange:?} reaches the terminal in {message:?}");
    }
}

/// Lines of the input as lines of an export: what is read can be exported, and read again.
pub(super) fn import(input: &[u8]) {
    for line in input.split(|&byte| byte == b'\n') {
        let Some(first) = fuzzing::import(line) else { continue };
        let again = fuzzing::import(first.as_bytes());
        assert_eq!(again.as_ref(), Some(&first), "{}", String::from_utf8_lossy(line));
    }
}
