//! Stored text on its way to a terminal.
//!
//! A user name or label may hold what moves a cursor, rewrites a title or turns text around.

use std::fmt::Write as _;

/// One line in which nothing acts on a terminal: such characters are shown as `\u{1b}`.
pub(crate) fn line(text: &str) -> String {
    escaped(text, |_| false, |out, c| write!(out, "{}", c.escape_unicode()))
}

/// The same, with its line breaks.
pub(crate) fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n', |out, c| write!(out, "{}", c.escape_unicode()))
}

/// The same JSON, in which nothing acts on a terminal. JSON's own syntax is plain ASCII, so such
/// characters only stand inside its strings, where `\u009b` means the same.
pub(crate) fn json(text: &str) -> String {
    escaped(
        text,
        |c| c == '\n',
        |out, c| {
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
        },
    )
}

fn escaped(
    text: &str,
    keep: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char) -> std::fmt::Result,
) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let written = if acts(c) && !keep(c) { escape(&mut out, c) } else { out.write_char(c) };
        debug_assert!(written.is_ok(), "a string takes all that is written to it");
    }
    out
}

/// Control characters, bidirectional overrides, line separators, invisible and tag characters.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_instead() {
        assert_eq!(line("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(line("a\u{202e}b\u{9b}c\nd"), "a\\u{202e}b\\u{9b}c\\u{a}d");
        assert_eq!(line("Müller 木 👩‍💻"), "Müller 木 👩‍💻");
        assert_eq!(lines("a\r\nb"), "a\\u{d}\nb");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({"k\u{9b}": "\u{202e}\u{e0041}\u{1b}\n"});
        let text = json(&value.to_string());
        assert!(!text.chars().any(acts));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
