//! A folder with a session file whose content is the same each time, and what is not the same
//! taken out of what is shown.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::terminal::piped;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const HALF_AN_HOUR: i64 = 30 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A session as a line of an export; times are so long ago that what is shown of them stays.
struct Line {
    /// Its ID is this, sixteen times.
    id: &'static str,
    user: Option<&'static str>,
    label: Option<&'static str>,
    realm: Option<&'static str>,
    created_ago: i64,
    seen_ago: i64,
    over: Option<&'static str>,
    data: &'static str,
}

const PLAIN: Line = Line {
    id: "1a2b",
    user: None,
    label: None,
    realm: None,
    created_ago: 9 * HOUR + 30 * MINUTE,
    seen_ago: 5 * HOUR + 30 * MINUTE,
    over: None,
    data: "{}",
};

/// A word that spreadsheets would carry out, that would colour a terminal red, and break a line.
const HOSTILE: &str = "=cmd|' /C calc'!A0\\u001b[31m\\n\\\"x\\\"";

const SESSIONS: [Line; 8] = [
    Line {
        user: Some("alice"),
        label: Some("Firefox on Linux"),
        data: r#"{"cart":{"msgpack":"kwECAw=="},"theme":{"msgpack":"pGRhcms="}}"#,
        ..PLAIN
    },
    Line { id: "1a2c", user: Some("alice"), label: Some("Safari on iPhone"), ..PLAIN },
    Line {
        id: "2222",
        user: Some("bob"),
        realm: Some("admin"),
        created_ago: 2 * DAY + HOUR,
        ..PLAIN
    },
    Line { id: "3333", created_ago: 7 * HOUR + 30 * MINUTE, ..PLAIN },
    Line { id: "4444", user: Some("carol"), over: Some("ended"), ..PLAIN },
    Line {
        id: "5555",
        user: Some("dave"),
        created_ago: 3 * DAY + HOUR,
        seen_ago: 2 * DAY + HOUR,
        ..PLAIN
    },
    Line { id: "6666", user: Some("erin"), over: Some("superseded"), ..PLAIN },
    Line {
        id: "7777",
        user: Some(HOSTILE),
        label: Some("\\u202eevil\\u202c, \\\"quoted\\\""),
        data: r#"{"=1+1\u001b[2J":{"msgpack":"pj1TVU0oKQ=="}}"#,
        ..PLAIN
    },
];

impl Line {
    fn json(&self, now: i64) -> String {
        let text = |text: Option<&str>| text.map_or("null".into(), |text| format!("\"{text}\""));
        let created = now - self.created_ago;
        let (ended_at, later) = (now - 2 * HOUR - 30 * MINUTE, now + 20 * HOUR);
        let ended = match self.over {
            Some("ended") => format!(
                r#"{{"at_ms":{ended_at},"until_ms":{later},"grace_ms":{ended_at},"by":"cli"}}"#
            ),
            _ => "null".into(),
        };
        let superseded = match self.over {
            Some("superseded") => format!(
                r#"{{"at_ms":{ended_at},"until_ms":{later},"successor":"{}"}}"#,
                "1a2b".repeat(16)
            ),
            _ => "null".into(),
        };
        let signed_in = self.user.map_or("null".into(), |_| created.to_string());
        format!(
            r#"{{"session":{{"id":"{}","version":3,"user":{},"label":{},"realm":{},"created_at_ms":{created},"authenticated_at_ms":{signed_in},"last_seen_at_ms":{},"absolute_at_ms":{},"idle_seconds":86400,"remembered":false,"ended":{ended},"superseded":{superseded},"data":{}}}}}"#,
            self.id.repeat(16),
            text(self.user),
            text(self.label),
            text(self.realm),
            now - self.seen_ago,
            created + 30 * DAY,
            self.data,
        )
    }
}

/// An export with what makes up the file.
pub(crate) fn export_of(count: usize) -> String {
    let now = now();
    let lines: Vec<_> = SESSIONS[..count].iter().map(|line| line.json(now)).collect();
    let head = head(now);
    format!("{head}\n{}\n{{\"end\":{{\"sessions\":{count}}}}}\n", lines.join("\n"))
}

/// An export of an application as one wishes it, for a picture.
pub(crate) fn export_for_picture() -> String {
    const PEOPLE: [(Option<&str>, Option<&str>, i64, i64); 9] = [
        (Some("alice"), Some("Firefox on Linux"), 26, 1),
        (Some("alice"), Some("Safari on iPhone"), 9, 2),
        (Some("bob"), Some("Chrome on Windows"), 75, 4),
        (Some("carol"), Some("Edge on Windows"), 3, 1),
        (Some("dave"), Some("Firefox on macOS"), 7, 5),
        (Some("erin"), Some("Chrome on Android"), 2, 1),
        (None, None, 12, 10),
        (None, None, 31, 13),
        (None, None, 4, 3),
    ];
    let now = now();
    let mut lines: Vec<_> = (0..)
        .zip(PEOPLE)
        .map(|(number, (user, label, created, seen))| {
            let word = (number + 5_u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let id = [word, word.rotate_left(17), word.rotate_left(31), word.rotate_left(47)];
            let id = id.map(|word| format!("{word:016x}")).concat();
            // Half an hour more, so that a picture takes as long as it likes.
            let (created_ago, seen_ago) =
                (created * HOUR + HALF_AN_HOUR, seen * HOUR + HALF_AN_HOUR);
            let data = SESSIONS[0].data;
            let line = Line { user, label, created_ago, seen_ago, data, ..PLAIN }.json(now);
            line.replacen(&PLAIN.id.repeat(16), &id, 1)
        })
        .collect();
    lines.sort();
    let head = head(now);
    let end = format!("{{\"end\":{{\"sessions\":{}}}}}", lines.len());
    format!("{head}\n{}\n{end}\n", lines.join("\n"))
}

fn head(now: i64) -> String {
    let at = jiff::Timestamp::from_second(now / 1000).unwrap();
    format!(r#"{{"export":{{"format":1,"exported_at":"{at}"}}}}"#)
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    i64::try_from(now).unwrap()
}

/// A folder with `sessions.redb`, `backup.redb`, a copy of it, and `more.jsonl`, an export.
pub(crate) struct Desk(TempDir);

struct Files {
    sessions: Vec<u8>,
    export: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        static FILES: OnceLock<Files> = OnceLock::new();
        let files = FILES.get_or_init(make);
        let desk = Self(tempfile::tempdir().unwrap());
        std::fs::write(desk.file("more.jsonl"), &files.export).unwrap();
        for name in ["sessions.redb", "backup.redb"] {
            std::fs::write(desk.file(name), &files.sessions).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(desk.file(name), mode).unwrap();
        }
        desk
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The IDs of all records, which nothing may lose.
    pub(crate) fn ids(&self) -> Vec<String> {
        let ran = piped(self.path(), &["list", "--state", "all", "--format", "ids"], "");
        ran.with_code(0).out.lines().map(Into::into).collect()
    }
}

fn make() -> Files {
    let dir = tempfile::tempdir().unwrap();
    let export = export_of(SESSIONS.len());
    piped(dir.path(), &["import", "-", "--reason", "a new machine"], &export).with_code(0);
    let sessions = std::fs::read(dir.path().join("sessions.redb")).unwrap();
    Files { sessions, export }
}

/// The text without what differs from run to run: instants, keys, sizes of files, this machine.
/// What stands for it is as long.
pub(crate) fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_of_word = |last: char| last.is_ascii_alphanumeric() || last == '_';
        let at_word = out.chars().next_back().is_none_or(|last| !is_of_word(last));
        match at_word.then(|| stand_in(rest)).flatten() {
            Some((len, instead)) => {
                out.push_str(&instead);
                rest = &rest[len..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out.replace('\u{1b}', "␛").replace('\r', "␍")
}

/// What to put in the place of the beginning of `text`, and how much of it that is.
fn stand_in(text: &str) -> Option<(usize, String)> {
    for pattern in ["9999-99-99T99:99:99Z", "99999999T999999Z"] {
        if matches(text, pattern) {
            return Some((pattern.len(), pattern.replace('9', "0")));
        }
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let word = &text[..end];
    let is_hex = |word: &str| word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if word.len() == 8 && is_hex(word) && !SESSIONS.iter().any(|line| line.id.repeat(2) == word) {
        return Some((8, "kkkkkkkk".into()));
    }
    // What was just made may be older where the machine is busy.
    if let Some(rest) = text[end..].strip_prefix(" ago")
        && end > 1
        && word.ends_with(['s', 'm'])
        && word[..end - 1].bytes().all(|byte| byte.is_ascii_digit())
    {
        let width = if rest.starts_with(" (") { 3 } else { end + 4 };
        return Some((end + 4, format!("{:<width$}", "now")));
    }
    // Milliseconds since 1970.
    if word.len() == 13 && word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some((13, "0".repeat(13)));
    }
    file_size(text)
}

/// `108.0 KiB`, and `"file": 110592` for some names.
fn file_size(text: &str) -> Option<(usize, String)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let whole = digits(text);
    if whole > 0 && text[whole..].starts_with('.') {
        let tenths = digits(&text[whole + 1..]);
        let unit = &text[whole + 1 + tenths..];
        return [" KiB", " MiB"]
            .iter()
            .any(|known| unit.starts_with(known))
            .then(|| (whole + 1 + tenths + 4, "0.0 KiB".into()));
    }
    let names = ["file", "free", "bytes", "bytes_before", "bytes_after"];
    let name = names
        .iter()
        .find(|name| text.strip_prefix(**name).is_some_and(|rest| rest.starts_with("\":")))?;
    let value = text[name.len() + 2..].trim_start_matches(' ');
    let from = text.len() - value.len();
    let len = digits(value);
    (len > 0).then(|| (from + len, format!("{}0", &text[..from])))
}

fn matches(text: &str, pattern: &str) -> bool {
    text.len() >= pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, like)| match like {
            b'9' => byte.is_ascii_digit(),
            like => byte == like,
        })
}
