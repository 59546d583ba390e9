//! Stored text and files that mean harm, or are merely broken.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::desk::{Desk, export_of};
use crate::terminal::{Ran, Terminal, piped};

const FORMATS: [&str; 5] = ["table", "json", "jsonl", "csv", "ids"];

/// What would move a cursor, rewrite a title, break a line, turn text around, or be carried out.
const EVIL: [&str; 8] = [
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "line\nbreak\r\n\u{85}\u{2028}",
    "\u{202e}evil\u{202c}\u{200b}\u{feff}",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1-1, \"quoted\", 'single'; $(reboot) `reboot`",
    "-2+3",
    "\t=1+1\u{0}",
];

fn run(desk: &Desk, line: &str, stdin: &str) -> Ran {
    let args: Vec<_> = line.split(' ').collect();
    piped(desk.path(), &args, stdin)
}

/// An export with one session whose user, label, realm and data are `text`.
fn export_with(number: usize, text: &str) -> String {
    let lines = export_of(1);
    let mut line: Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    let session = &mut line["session"];
    session["id"] = format!("{number:064x}").into();
    for name in ["user", "label", "realm"] {
        session[name] = text.into();
    }
    let packed = base64_of(text);
    session["data"] = serde_json::json!({});
    // A key has a bound of its own.
    let key: String = text.chars().take(50).collect();
    session["data"][format!("key {key}")] = serde_json::json!({ "msgpack": packed });
    let head = lines.lines().next().unwrap().to_owned();
    format!("{head}\n{line}\n{{\"end\":{{\"sessions\":1}}}}\n")
}

/// The text as MessagePack, in base64.
fn base64_of(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = vec![0xdb];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - part.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= part.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

fn acts(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}' | '\u{2028}' | '\u{202a}'..='\u{202e}' | '\u{feff}')
}

#[test]
fn stored_text_acts_on_nothing_in_any_format() {
    let desk = Desk::new();
    for (number, text) in EVIL.iter().enumerate() {
        run(&desk, "import -", &export_with(number, text)).with_code(0);
    }
    let rows = 8 + EVIL.len();
    for format in FORMATS {
        let line = format!("list --state all --format {format}");
        let out = run(&desk, &line, "").with_code(0).out;
        assert_eq!(out.chars().find(|c| acts(*c)), None, "{format}: {out:?}");
        let around = match format {
            "json" => 2,
            "table" | "csv" => 1,
            _ => 0,
        };
        assert_eq!(out.lines().count(), rows + around, "{format}: a row is a line");
        let args: Vec<_> = line.split(' ').collect();
        let shown = Terminal::start(desk.path(), &args, 200, &[("NO_COLOR", "1")]).end();
        assert_eq!(shown.with_code(0).out.chars().find(|c| acts(*c)), None, "{format}");
    }
    for format in ["table", "json", "jsonl"] {
        for number in 0..EVIL.len() {
            let line = format!("inspect {number:064x} --format {format}");
            let out = run(&desk, &line, "").with_code(0).out;
            assert_eq!(out.chars().find(|c| acts(*c)), None, "{line}: {out:?}");
        }
        for line in ["stats", "log"] {
            let out = run(&desk, &format!("{line} --format {format}"), "").with_code(0).out;
            assert_eq!(out.chars().find(|c| acts(*c)), None, "{line}: {out:?}");
        }
    }
}

#[test]
fn json_holds_stored_text_as_it_is() {
    let desk = Desk::new();
    for (number, text) in EVIL.iter().enumerate() {
        run(&desk, "import -", &export_with(number, text)).with_code(0);
        let out = run(&desk, &format!("inspect {number:064x} --json"), "").with_code(0).out;
        let shown: Value = serde_json::from_str(&out).unwrap();
        assert_eq!([&shown["user"], &shown["label"]], [text, text]);
        assert_eq!(shown["data"][format!("key {text}")], *text);
    }
}

/// The characters by which OWASP has a formula begin, however the row is split.
#[test]
fn no_field_of_csv_is_a_formula() {
    let desk = Desk::new();
    for (number, text) in EVIL.iter().enumerate() {
        run(&desk, "import -", &export_with(number, text)).with_code(0);
        run(&desk, &format!("expire {number:064x} --reason"), "").with_code(2);
    }
    piped(desk.path(), &["expire", "2222", "--reason", "=1+1"], "").with_code(0);
    for line in ["list --state all --format csv", "log --format csv", "check --format csv"] {
        let out = run(&desk, line, "").with_code(0).out;
        for field in out.lines().flat_map(|line| line.split(',')) {
            let field = field.trim_start_matches('"');
            assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']), "{line}: {field:?}");
        }
    }
}

#[test]
fn megabytes_in_a_name_are_refused_or_shown_whole_but_never_cut_a_list() {
    let long = "a".repeat(1 << 20) + "\u{1b}[31m";
    let desk = Desk::new();
    let ran = run(&desk, "import -", &export_with(1, &long));
    let there = ran.code() == 0;
    assert!(
        there || ran.err.starts_with("error: line 2 cannot be imported"),
        "{}",
        &ran.err[..200]
    );
    let ids = desk.ids();
    assert_eq!(ids.len(), 8 + usize::from(there));
    for format in FORMATS {
        let out = run(&desk, &format!("list --format {format}"), "").with_code(0).out;
        assert_eq!(out.chars().find(|c| acts(*c)), None, "{format}");
        assert!(out.contains("77777777"), "{format}");
    }
    let shown = Terminal::start(desk.path(), &["list"], 100, &[]).end().with_code(0).out;
    assert!(shown.lines().all(|line| line.chars().count() <= 100), "a row is cut to its line");
    // Given by an operator, it is not found, and not repeated at length.
    let user = piped(desk.path(), &["list", "--user", &long[..100_000]], "").with_code(0);
    assert_eq!(user.err, "no session matches\n");
    let id = piped(desk.path(), &["inspect", &"f".repeat(100_000)], "").with_code(2).err;
    assert!(id.len() < 1000, "{}", id.len());
    let reason = piped(desk.path(), &["expire", "2222", "--reason", &long[..100_000]], "");
    reason.with_code(0);
    run(&desk, "log", "").with_code(0);
}

/// A record of a time to come, as a clock that was set back leaves behind.
#[test]
fn sessions_of_a_time_to_come_are_listed_ended_and_purged_like_others() {
    let desk = Desk::new();
    let ahead = 400 * 24 * 3600 * 1000_i64;
    let lines: Vec<_> = export_of(2)
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let names =
                ["created_at_ms", "authenticated_at_ms", "last_seen_at_ms", "absolute_at_ms"];
            if let Some(session) = line.get_mut("session") {
                for name in names {
                    session[name] = (session[name].as_i64().unwrap() + ahead).into();
                }
            }
            line.to_string() + "\n"
        })
        .collect();
    run(&desk, "import - --db new.redb", &lines.concat()).with_code(0);
    let shown = Terminal::start(desk.path(), &["list", "--db", "new.redb"], 100, &[]).end();
    assert!(shown.with_code(0).out.contains("in 399d"));
    let none = run(&desk, "list --older-than 1s --db new.redb --format ids", "").with_code(0);
    assert_eq!(none.out, "", "it is not older than anything");
    let stats: Value =
        serde_json::from_str(&run(&desk, "stats --json --db new.redb", "").with_code(0).out)
            .unwrap();
    assert_eq!((&stats["sessions"]["live"], &stats["age"][0]["count"]), (&2.into(), &2.into()));
    let idle = run(&desk, "expire --idle-for 1s --yes --json --db new.redb", "").with_code(0).out;
    assert!(idle.contains("\"ended\": 0"), "{idle}");
    let all = run(&desk, "expire --all --yes --json --db new.redb", "").with_code(0).out;
    assert!(all.contains("\"ended\": 2"), "{all}");
    run(&desk, "purge --db new.redb", "").with_code(0);
    assert_eq!(run(&desk, "list --format ids --db new.redb", "").with_code(0).out, "");
}

#[test]
fn an_import_of_what_is_no_export_makes_no_database() {
    for text in ["", "id,user\n", "\u{1}\u{7}"] {
        let desk = Desk::new();
        std::fs::write(desk.file("garbage"), text).unwrap();
        for (args, input) in
            [("import - --db new.redb", text), ("import garbage --db new.redb", "")]
        {
            let ran = run(&desk, args, input).with_code(1);
            let why = "error: line 1 cannot be imported: an export begins with a line";
            assert!(ran.err.starts_with(why), "{text:?}: {}", ran.err);
            assert!(!desk.file("new.redb").exists());
        }
    }
}

/// What an import refuses, with its line, its code, and what is in the file afterwards.
#[test]
fn a_broken_import_is_refused_by_its_line_and_loses_nothing() {
    let whole = export_of(3);
    let lines: Vec<&str> = whole.lines().collect();
    let [head, first, second, third, end] = lines[..] else { panic!("{whole}") };
    let half = &second[..second.len() / 2];
    let unknown = second.replace("\"version\":3", "\"version\":3,\"colour\":1");
    let twice = first.replace("\"user\":\"alice\"", "\"user\":\"mallory\"");
    let go_on = "\n  repeat the command to go on: what is there already is skipped\n";
    let no_export = "\n  name a file that `export` wrote\n";
    let cases: [(String, &str, usize); 7] = [
        (format!("{head}\n{first}\n{half}"), "line 3 cannot be imported: it has no end", 1),
        (format!("{head}\n{first}\n{half}\n{third}\n"), "line 3 cannot be imported: EOF while", 1),
        (
            format!("{head}\n{first}\n{unknown}\n{third}\n{end}\n"),
            "line 3 cannot be imported: unknown field `colour`",
            1,
        ),
        (format!("{head}\n{first}\n"), "the export is cut: its last line is missing", 1),
        (
            format!("{head}\n{first}\n{second}\n{end}\n"),
            "line 4 cannot be imported: the export had 3 sessions, and 2 were read",
            2,
        ),
        (format!("{first}\n"), "line 1 cannot be imported: an export begins with", 0),
        (
            format!("{head}\n{first}\n{twice}\n{third}\n{end}\n"),
            "1 session differ here and were kept",
            2,
        ),
    ];
    for (text, why, there) in cases {
        let desk = Desk::new();
        let ran = run(&desk, "import - --db new.redb", &text).with_code(1);
        assert!(ran.err.starts_with(&format!("error: {why}")), "{why}: {}", ran.err);
        let next = if why.starts_with("line 1 ") { no_export } else { go_on };
        assert!(!why.starts_with("line") || ran.err.ends_with(next), "{}", ran.err);
        let ids = run(&desk, "list --state all --format ids --db new.redb", "").with_code(0).out;
        assert_eq!(ids.lines().count(), there, "{why}");
        run(&desk, "check --db new.redb", "").with_code(0);
        // The whole export afterwards makes up for it.
        run(&desk, "import - --db new.redb", &whole).with_code(0);
        assert_eq!(
            run(&desk, "list --state all --format ids --db new.redb", "").out.lines().count(),
            3
        );
    }
}

#[test]
fn the_same_id_twice_is_imported_once() {
    let desk = Desk::new();
    let whole = export_of(1);
    let lines: Vec<&str> = whole.lines().collect();
    let text =
        format!("{}\n{}\n{}\n{{\"end\":{{\"sessions\":2}}}}\n", lines[0], lines[1], lines[1]);
    let said = run(&desk, "import - --db new.redb", &text).with_code(0).out;
    assert_eq!(said, "imported 1 session; 1 there already\n");
}

#[test]
fn keys_leave_in_a_file_that_is_closed_to_others_and_not_twice_into_one() {
    let desk = Desk::new();
    run(&desk, "export --with-keys -o keys.jsonl", "").with_code(0);
    let mode = std::fs::metadata(desk.file("keys.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(desk.file("keys.jsonl")).unwrap();
    run(&desk, "export --with-keys -o keys.jsonl", "").with_code(1);
    assert!(std::fs::read(desk.file("keys.jsonl")).unwrap() == before);
}

#[test]
fn a_file_that_is_cut_within_its_header_is_damaged() {
    let desk = Desk::new();
    for length in [10, 500, 4095] {
        let cut = desk.file("cut.redb");
        std::fs::copy(desk.file("sessions.redb"), &cut).unwrap();
        std::fs::File::options().write(true).open(&cut).unwrap().set_len(length).unwrap();
        for verb in ["list", "check", "backup copy.redb", "compact"] {
            let ran = run(&desk, &format!("{verb} --db cut.redb"), "").with_code(5);
            assert!(ran.err.contains("truncated"), "{verb} of {length}: {}", ran.err);
        }
        assert_eq!(std::fs::metadata(&cut).unwrap().len(), length);
    }
}

#[test]
fn of_several_who_make_a_file_one_does() {
    let desk = Desk::new();
    for round in 0..10 {
        let line = format!("init --db new-{round}.redb");
        let made = std::thread::scope(|scope| {
            let desk = &desk;
            let line = &line;
            let all: Vec<_> = (0..4).map(|_| scope.spawn(move || run(desk, line, ""))).collect();
            let all = all.into_iter().map(|one| one.join().unwrap());
            all.filter(|ran| ran.code() == 0 || !ran.err.contains("exists already")).count()
        });
        assert_eq!(made, 1);
    }
}
