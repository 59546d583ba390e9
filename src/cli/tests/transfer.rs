//! `export` and `import`.

use super::*;

/// What an export of `desk` says, line by line.
fn exported(desk: &Desk) -> Vec<String> {
    desk.run("export -q").done().out.lines().map(Into::into).collect()
}

fn import(desk: &mut Desk, lines: &[String]) -> Ran {
    desk.stdin = lines.join("\n") + "\n";
    desk.run("import - --json")
}

fn filled() -> Desk {
    let desk = Desk::new();
    let mut draft = Draft::default();
    draft.changes.set("greeting", rmp_serde::to_vec("hello").unwrap()).unwrap();
    draft.changes.set("ratio", rmp_serde::to_vec(&0.1_f64).unwrap()).unwrap();
    draft.changes.set("odd", vec![0xc4, 2, 0, 255]).unwrap();
    draft.label = Some(Some("Firefox, \u{1b}[31m=1+1".into()));
    desk.create_id([1; 32], Some("alice\n"), draft);
    desk.create(2, Some("bob"));
    desk.end(2);
    desk.create(3, None);
    desk
}

#[test]
fn what_was_exported_comes_back_whole() {
    let from = filled();
    let lines = exported(&from);
    assert_eq!(lines.len(), 5);
    let mut to = Desk::new();
    let report = import(&mut to, &lines).done().json();
    let expected = serde_json::json!({
        "read": 3, "imported": 3, "same": 0, "ended": 0, "conflicts": 0, "keys": false,
    });
    assert_eq!(report, expected);
    assert_eq!(exported(&to), lines);
    for line in ["list --state all --json", "inspect 01 --json"] {
        assert_eq!(to.run(line).done().out, from.run(line).done().out);
    }
}

#[test]
fn what_is_nested_too_deep_for_json_comes_back_too() {
    let deep = [[0x81, 1].repeat(64), vec![1]].concat();
    let from = Desk::new();
    let mut draft = Draft::default();
    draft.changes.set("deep", deep).unwrap();
    from.create_id([1; 32], None, draft);
    let lines = exported(&from);
    assert!(!lines[1].contains("\"value\""), "{}", lines[1]);
    let mut to = Desk::new();
    assert_eq!(import(&mut to, &lines).done().json()["imported"], 1);
    assert_eq!(exported(&to), lines);
}

#[test]
fn an_import_may_be_repeated_and_keeps_what_differs() {
    let from = filled();
    let lines = exported(&from);
    let mut to = Desk::new();
    import(&mut to, &lines[..3]);
    let report = import(&mut to, &lines).done().json();
    assert_eq!([&report["imported"], &report["same"]], [1, 2]);
    to.end(1);
    let report = import(&mut to, &lines).done().json();
    assert_eq!([&report["ended"], &report["conflicts"]], [1, 0]);
    assert_eq!(to.live(), 1, "the ended session was brought back");
    let mut changed = Draft::default();
    changed.changes.set("more", vec![1]).unwrap();
    to.commit(SessionId::from_bytes([3; 32]), Op::Merge(changed));
    let ran = import(&mut to, &lines);
    assert_eq!(ran.code, exit::FAILED);
    assert_eq!(ran.json()["conflicts"], 1);
    assert!(ran.err.contains("1 session differ here") && ran.err.contains("0303"), "{}", ran.err);
}

#[test]
fn half_a_line_is_refused_by_its_number_and_the_rest_is_done() {
    let lines = exported(&filled());
    let mut to = Desk::new();
    let half = &lines[3][..lines[3].len() / 2];
    to.stdin = format!("{}\n{}\n{}\n{half}", lines[0], lines[1], lines[2]);
    let ran = to.run("import -");
    assert_eq!(ran.code, exit::FAILED);
    let expected = "error: line 4 cannot be imported: it has no end: the export was cut\n  \
        what stands before it is done: imported 2 sessions\n  \
        repeat the command to go on: what is there already is skipped\n";
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("imported 2 sessions\n", expected));
    // A whole tail is missed, too.
    let mut to = Desk::new();
    let ran = import(&mut to, &lines[..4]);
    assert!(ran.err.starts_with("error: the export is cut: its last line"), "{}", ran.err);
    assert_eq!((ran.code, &ran.json()["imported"]), (exit::FAILED, &3.into()));
}

#[test]
fn what_is_not_understood_is_refused_by_its_line() {
    let lines = exported(&filled());
    let refused = |line: &str, problem: &str| {
        let mut to = Desk::new();
        let lines = [lines[0].clone(), lines[3].clone(), line.to_owned(), lines[4].clone()];
        let ran = import(&mut to, &lines);
        let expected = format!("error: line 3 cannot be imported: {problem}");
        assert!(ran.err.starts_with(&expected), "{}", ran.err);
        assert_eq!((ran.code, &ran.json()["imported"]), (exit::FAILED, &1.into()));
    };
    let alice = &lines[1];
    refused(&alice.replacen("\"version\"", "\"color\":1,\"version\"", 1), "unknown field `color`");
    refused(&alice.replacen("\"version\":", "\"v\":", 1), "unknown field `v`");
    refused(&alice.replacen("\"hello\"", "\"goodbye\"", 1), "`data`, `greeting`: `value` is not");
    refused(&alice.replacen("0101", "01", 1), "`id`: a session ID has 64");
    refused(
        &alice.replacen(
            "\"ended\":null",
            "\"ended\":{\"at_ms\":1,\"until_ms\":2,\"grace_ms\":0,\"by\":\"cli\"}",
            1,
        ),
        "a session that is over has no data",
    );
    refused("{\"thing\":{}}", "unknown variant `thing`");
    refused(&lines[0], "an export has one first line");
    refused("", "EOF while parsing");
    let mut to = Desk::new();
    let newer = lines[0].replace("\"format\":1", "\"format\":2");
    assert!(import(&mut to, &[newer]).err.contains("it has format 2; this version reads up to 1"));
    assert!(
        import(&mut to, &lines[1..]).err.contains("line 1 cannot be imported: an export begins")
    );
}

#[test]
fn rule_07_an_import_revives_nothing() {
    let desk = filled();
    let lines = exported(&desk);
    let mut desk = desk;
    desk.clock.advance(Duration::from_secs(1));
    desk.run("expire --all --yes -q").done();
    desk.clock.advance(Duration::from_secs(48 * 3600));
    desk.run("purge -q").done();
    let report = import(&mut desk, &lines).json();
    assert_eq!([&report["imported"], &report["ended"]], [1, 2]);
    assert_eq!(desk.live(), 0);
}

#[test]
fn an_import_of_an_old_export_says_how_old_it_is() {
    let from = filled();
    let lines = exported(&from);
    let mut to = Desk::new();
    to.clock.advance(Duration::from_secs(3600));
    assert!(!import(&mut to, &lines).done().err.contains("the export was made"));
    let mut to = Desk::new();
    to.clock.advance(Duration::from_secs(3 * 24 * 3600));
    let ran = import(&mut to, &lines);
    assert_eq!(ran.code, exit::DONE);
    assert!(ran.err.starts_with("the export was made 3d ago: what ended since"), "{}", ran.err);
    // Nothing new came in.
    assert_eq!(import(&mut to, &lines).done().err, "");
}

#[test]
fn keys_go_to_a_new_file_closed_to_others_and_log_nobody_out() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.jsonl");
    let shown = path.to_str().unwrap();
    let from = filled();
    let ran = from.run("export --with-keys");
    assert_eq!((ran.code, ran.out.as_str()), (exit::USAGE, ""));
    assert!(ran.err.starts_with("error: keys are never written to standard output"), "{}", ran.err);
    from.run(&format!("export --with-keys -q -o {shown}")).done();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let again = from.run(&format!("export -o {shown}"));
    assert_eq!(again.code, exit::FAILED);
    assert!(again.err.contains("not there yet"), "{}", again.err);

    let to = Desk::new();
    let own = to.run("key list --json").done().json();
    let report = to.run(&format!("import {shown} --json")).done().json();
    assert_eq!(report["keys"], true);
    let merged = to.run("key list --json").done().json();
    let theirs = from.run("key list --json").done().json();
    assert_eq!((&merged[0], &merged[1]["id"]), (&own[0], &theirs[0]["id"]));
    assert_eq!(merged[1]["until"], "2023-11-15T22:13:20Z", "as long as the longest idle timeout");
}

#[test]
fn an_interrupted_export_leaves_no_half_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.jsonl");
    let desk = Desk::new();
    for n in 0..600_u16 {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        desk.create_id(id, None, Draft::default());
    }
    desk.signals.interrupt();
    let ran = desk.run(&format!("export -o {}", path.display()));
    assert_eq!(ran.code, exit::INTERRUPTED);
    assert!(ran.err.starts_with("error: interrupted: wrote 500 sessions\n"), "{}", ran.err);
    assert!(!path.exists());
    let mut to = Desk::new();
    let half = desk.run("export").out;
    to.stdin = half;
    let ran = to.run("import - -q");
    assert_eq!(ran.code, exit::FAILED);
    to.signals.interrupt();
    to.stdin = exported_all(&desk);
    let ran = to.run("import -");
    assert_eq!(ran.code, exit::INTERRUPTED);
    assert!(ran.err.starts_with("error: interrupted: 0 lines were read"), "{}", ran.err);
}

/// An export by somebody who presses nothing.
fn exported_all(desk: &Desk) -> String {
    let calm = Desk {
        store: desk.store.clone(),
        clock: desk.clock.clone(),
        screen: Screen::default(),
        stdin: String::new(),
        signals: Signals::deaf(),
    };
    calm.run("export -q").done().out
}
