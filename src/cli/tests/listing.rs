//! `list` and `stats`.

use super::*;
use crate::cli::select::LONG_PAGE;

#[test]
fn machine_formats_have_the_documented_fields() {
    let desk = Desk::new();
    let draft = Draft { label: Some(Some("Firefox, \"x\"".into())), ..Draft::default() };
    let id = desk.create_id([0xab; 32], Some("alice"), draft);
    let listed = desk.run("list --json").done().json();
    let expected = serde_json::json!([{
        "id": id, "user": "alice", "label": "Firefox, \"x\"", "realm": null, "state": "live",
        "created_at": "2023-11-14T22:13:20Z", "authenticated_at": "2023-11-14T22:13:20Z",
        "last_seen_at": "2023-11-14T22:13:20Z", "expires_at": "2023-11-15T22:13:20Z",
        "size_bytes": listed[0]["size_bytes"].as_u64().unwrap(),
        "ended_at": null, "ended_by": null,
    }]);
    assert_eq!(listed, expected);
    let line = desk.run("list --format jsonl").done().out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected[0]);
    assert_eq!(desk.run("ls --format ids").done().out, format!("{id}\n"));
    let csv = desk.run("list --format csv").done().out;
    let mut lines = csv.lines();
    assert_eq!(
        lines.next().unwrap(),
        "id,user,label,realm,state,created_at,authenticated_at,last_seen_at,expires_at,\
         size_bytes,ended_at,ended_by"
    );
    assert!(lines.next().unwrap().starts_with(&format!("{id},alice,\"Firefox, \"\"x\"\"\",,live")));
}

#[test]
fn an_empty_list_is_still_of_its_format() {
    let desk = Desk::new();
    let ran = desk.run("list");
    assert_eq!((ran.code, ran.out.as_str()), (exit::DONE, ""));
    assert_eq!(desk.run("list --json -q").done().out, "[]\n");
    assert!(desk.run("list --format csv -q").done().out.starts_with("id,user,"));
    assert_eq!(desk.run("list --format ids -q").done().out, "");
}

#[test]
fn filters_are_combined_with_and() {
    let desk = Desk::new();
    desk.create(1, Some("alice"));
    desk.create(2, None);
    desk.create(3, Some("bob"));
    desk.end(3);
    desk.clock.advance(Duration::from_secs(3600));
    desk.create(4, Some("alice"));
    let ids = |line: &str| {
        let out = desk.run(&format!("list --format ids -q {line}")).done().out;
        out.lines().map(|id| id[..2].to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(""), "01 02 04");
    assert_eq!(ids("--user alice"), "01 04");
    assert_eq!(ids("--user alice --older-than 30m"), "01");
    assert_eq!(ids("--newer-than 30m"), "04");
    assert_eq!(ids("--newer-than 2023-11-14T22:30:00Z"), "04");
    assert_eq!(ids("--anonymous"), "02");
    assert_eq!(ids("--idle-for 30m"), "01 02");
    assert_eq!(ids("--except 01 --except 0202"), "04");
    assert_eq!(ids("--state ended"), "03");
    assert_eq!(ids("--state all"), "01 02 03 04");
    assert_eq!(ids("--realm admin"), "");
    assert_eq!(desk.run("list --except 77").code, exit::NO_SUCH_SESSION);
}

#[test]
fn sorting_reverses_and_is_limited() {
    let desk = Desk::new();
    for (byte, user) in [(1, Some("carol")), (2, Some("alice")), (3, None), (4, Some("bob"))] {
        desk.create(byte, user);
        desk.clock.advance(Duration::from_secs(60));
    }
    let ids = |line: &str| {
        let out = desk.run(&format!("list --format ids {line}")).done().out;
        out.lines().map(|id| id[..2].to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("--sort user"), "03 02 04 01");
    assert_eq!(ids("--sort created --reverse --limit 2"), "04 03");
    assert_eq!(ids("--sort last-seen --limit 1"), "01");
    assert_eq!(ids("--sort expires"), "01 02 03 04");
    assert_eq!(ids("--reverse"), "04 03 02 01");
    assert_eq!(ids("--sort id --limit 3"), "01 02 03");
    assert_eq!(ids("--sort size --limit 1"), "03");
    assert_eq!(desk.run("list --limit 0 --json -q").done().out, "[]\n");
}

#[test]
fn a_table_on_a_terminal_is_relative_and_cut_to_its_width() {
    let desk = Desk::new().interactive("");
    let draft = Draft { label: Some(Some("l".repeat(200).into())), ..Draft::default() };
    desk.create_id([1; 32], Some("alice"), draft);
    desk.clock.advance(Duration::from_secs(180));
    let table = desk.run("list").done().out;
    assert!(table.contains("3m ago") && table.contains("in 23h"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains('…'));
}

#[test]
fn a_table_in_a_pipe_is_whole() {
    let desk = Desk::new();
    let label = "l".repeat(200);
    let draft = Draft { label: Some(Some(label.as_str().into())), ..Draft::default() };
    desk.create_id([1; 32], Some("alice"), draft);
    let table = desk.run("list").done().out;
    assert!(table.contains(&label) && table.contains("2023-11-14T22:13:20Z"), "{table}");
    assert!(table.starts_with("ID "));
}

#[test]
fn shown_beginnings_of_ids_differ() {
    let desk = Desk::new();
    let mut near = [7; 32];
    desk.create_id(near, None, Draft::default());
    near[5] = 8;
    desk.create_id(near, None, Draft::default());
    let table = desk.run("list").done().out;
    let shown: Vec<_> = table.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(shown, ["070707070707", "070707070708"]);
}

#[test]
fn stored_text_does_not_act_on_a_terminal() {
    let desk = Desk::new().interactive("");
    let evil = "\u{1b}]0;owned\u{7}\u{202e}\u{9b}31m\n";
    let draft = Draft { label: Some(Some(evil.into())), ..Draft::default() };
    desk.create_id([1; 32], Some(evil), draft);
    for line in ["list", "list --json", "list --format csv", "inspect 01", "inspect 01 --json"] {
        let out = desk.run(line).done().out;
        assert!(out.contains("owned"), "{line}");
        let acting = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!out.contains(acting), "{line}: {out:?}");
    }
    assert_eq!(desk.run("inspect 01 --json").json()["user"], evil);
}

#[test]
fn watching_needs_a_terminal() {
    assert_eq!(Desk::new().run("list --watch").code, exit::USAGE);
    let desk = Desk::new().interactive("");
    assert_eq!(desk.run("list --watch --json").code, exit::USAGE);
    assert_eq!(desk.run_into(&["list", "--watch"], &mut Closed).0, exit::DONE);
}

#[test]
fn a_hundred_thousand_sessions_stream() {
    let desk = Desk::new();
    let sessions = 100_000_u32;
    // Spread like the hashes that IDs are, and in order.
    let id = |n: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&(n * 42_949).to_be_bytes());
        id[24..].copy_from_slice(&u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        id
    };
    for n in 0..sessions {
        desk.create_id(id(n), None, Draft::default());
    }
    let out = desk.run("list --format ids").done().out;
    let mut expected = (0..sessions).map(|n| SessionId::from_bytes(id(n)).to_string());
    assert!(out.lines().all(|id| Some(id) == expected.next().as_deref()));
    assert_eq!(expected.next(), None);
    // Nothing is held back: while a page is written, one more is fetched.
    let page = (LONG_PAGE * 65) as u64;
    let seen = desk.store.seen.lock();
    assert!(
        seen.iter().enumerate().all(|(n, written)| *written == n.saturating_sub(1) as u64 * page)
    );
}

#[test]
fn reading_changes_nothing() {
    let desk = Desk::new();
    desk.create(1, Some("alice"));
    desk.create(2, None);
    desk.end(2);
    let before = desk.run("list --state all --json").out;
    desk.clock.advance(Duration::from_secs(1));
    for line in ["list", "inspect 01 02", "stats", "key list", "purge -n", "expire -n --all"] {
        assert_eq!(desk.run(line).code, exit::DONE, "{line}");
    }
    assert_eq!(desk.run("list --state all --json").out, before);
}

#[test]
fn statistics_count_what_is_there() {
    let desk = Desk::new();
    desk.create(1, Some("alice"));
    desk.create(2, Some("alice"));
    desk.create(3, None);
    desk.create(4, None);
    desk.end(4);
    desk.clock.advance(Duration::from_secs(120));
    let stats = desk.run("stats --json").done().json();
    assert_eq!(stats["sessions"]["live"], 3);
    assert_eq!(stats["sessions"]["ended"], 1);
    assert_eq!((&stats["users"], &stats["anonymous"]), (&1.into(), &1.into()));
    assert_eq!(stats["remaining"][3]["count"], 0);
    assert_eq!(stats["age"][1], serde_json::json!({"below": 3600, "count": 3}));
    assert!(stats["bytes"]["stored"].as_u64() > stats["bytes"]["live"].as_u64());
    let drawn = desk.run("stats").done().out;
    assert!(drawn.contains(&"█".repeat(30)) && drawn.contains("3 sessions"), "{drawn}");
    assert_eq!(desk.run("stats --format csv").code, exit::USAGE);
}

#[test]
fn rule_18_what_cannot_be_decoded_is_counted_and_the_rest_is_shown() {
    let desk = Desk::new();
    desk.create(1, Some("alice"));
    *desk.store.corrupt.lock() = Some(SessionId::from_bytes([0xee; 32]));
    for line in ["list --format ids", "list --format ids --sort user"] {
        let ran = desk.run(line);
        assert_eq!((ran.code, ran.out), (exit::CORRUPT, format!("{}\n", "01".repeat(32))));
        assert!(ran.err.contains("1 record cannot be decoded"), "{}", ran.err);
    }
    let stats = desk.run("stats --json");
    assert_eq!((stats.code, &stats.json()["corrupt"]), (exit::CORRUPT, &1.into()));
    let ran = desk.run("inspect ee 01");
    assert!(ran.code == exit::CORRUPT && ran.out.contains("alice"), "{ran:?}");
    let ran = desk.run("expire eeee 0101 --json");
    assert_eq!((ran.code, &ran.json()["ended"]), (exit::CORRUPT, &1.into()));
}
