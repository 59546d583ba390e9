//! `expire` and `purge`.

use super::*;
use crate::cli::commands::purge::STEP;

fn three() -> Desk {
    let desk = Desk::new();
    desk.create(1, Some("alice"));
    desk.create(2, Some("alice"));
    desk.create(3, None);
    desk
}

#[test]
fn ids_are_ended_without_asking() {
    let desk = three();
    let report = desk.run("expire 0101 0303 --json").done().json();
    let expected = serde_json::json!({
        "matched": 2, "ended": 2, "already_over": 0, "purged": 0, "dry_run": false,
    });
    assert_eq!(report, expected);
    assert_eq!(desk.run("expire 0101").done().out, "ended 0 sessions; 1 already over\n");
    let ended = desk.run("inspect 01 --json").done().json();
    assert_eq!((&ended["state"], &ended["ended_by"]), (&"ended".into(), &"cli".into()));
    assert_eq!(desk.live(), 1);
}

#[test]
fn ids_come_from_standard_input() {
    let mut desk = three();
    desk.stdin =
        format!("{}\n\n  0202  alice  live\n", desk.run("list --format ids --limit 1").out);
    let report = desk.run("revoke - --json").done().json();
    assert_eq!(report["ended"], 2);
    assert_eq!(desk.live(), 1);
}

#[test]
fn a_missing_id_keeps_no_other_from_being_ended() {
    let desk = three();
    let ran = desk.run("expire 7777 0101 --json");
    assert_eq!((ran.code, &ran.json()["ended"]), (exit::NO_SUCH_SESSION, &1.into()));
    assert!(ran.err.contains("77"));
}

#[test]
fn a_bad_line_of_standard_input_is_named_by_its_number() {
    let mut desk = three();
    desk.stdin = "0101\n\nxyz\n7777\n0303\n".into();
    let ran = desk.run("expire - --json");
    assert_eq!((ran.code, &ran.json()["ended"]), (exit::NO_SUCH_SESSION, &2.into()));
    assert!(ran.err.contains("line 3: what was given"), "{}", ran.err);
    assert!(ran.err.contains("line 4: no session"), "{}", ran.err);
}

#[test]
fn an_ambiguous_beginning_names_its_candidates() {
    let desk = three();
    let [mut one, mut other] = [[0xab; 32], [0xab; 32]];
    (one[31], other[31]) = (1, 2);
    for id in [one, other] {
        desk.create_id(id, None, Draft::default());
    }
    let ran = desk.run("expire abab");
    assert_eq!(ran.code, exit::NO_SUCH_SESSION);
    for end in ["01", "02"] {
        assert!(ran.err.contains(&("ab".repeat(31) + end)), "{}", ran.err);
    }
    assert_eq!(desk.live(), 5);
}

#[test]
fn a_short_beginning_ends_nothing() {
    let desk = three();
    for line in ["expire 0", "expire 010", "revoke 0101 02"] {
        let ran = desk.run(line);
        assert_eq!(ran.code, exit::USAGE, "{line}");
        assert!(ran.err.contains("is too short to end a session by"), "{}", ran.err);
    }
    assert_eq!(desk.live(), 3);
}

#[test]
fn a_typing_error_ends_nothing() {
    let desk = three();
    assert_eq!(desk.run("expire 01 xyz").code, exit::USAGE);
    assert_eq!(desk.run("expire 01 --user alice").code, exit::USAGE);
    assert_eq!(desk.run("expire 01 --all").code, exit::USAGE);
    assert_eq!(desk.run("expire --all --user alice").code, exit::USAGE);
    assert_eq!(desk.run("expire").code, exit::USAGE);
    assert_eq!(desk.run("expire --except 01 --yes").code, exit::USAGE);
    assert_eq!(desk.run("expire --all --yes --format csv").code, exit::USAGE);
    assert_eq!(desk.live(), 3);
}

#[test]
fn a_selector_asks_at_a_terminal() {
    let desk = three().interactive("n\n");
    let ran = desk.run("expire --user alice");
    assert_eq!(ran.code, exit::FAILED);
    assert!(ran.err.contains("End 2 live sessions? [y/N]"), "{}", ran.err);
    assert_eq!(desk.live(), 3);
    let desk = desk.interactive("");
    assert_eq!(desk.run("expire --user alice").code, exit::FAILED);
    let desk = desk.interactive("y\n");
    assert_eq!(desk.run("expire --user alice").out, "ended 2 sessions\n");
    assert_eq!(desk.live(), 1);
}

#[test]
fn a_selector_without_a_terminal_needs_yes() {
    let desk = three();
    let ran = desk.run("expire --user alice");
    assert_eq!(ran.code, exit::USAGE);
    assert!(ran.err.contains("--yes"), "{}", ran.err);
    assert_eq!(desk.live(), 3);
    assert_eq!(desk.run("expire --user alice --yes --json").done().json()["ended"], 2);
    assert_eq!(desk.run("expire --user nobody").done().out, "ended 0 sessions\n");
}

#[test]
fn everyone_but_one_is_ended() {
    let desk = three();
    let report = desk.run("expire --all --except 02 --yes --json").done().json();
    assert_eq!((&report["matched"], &report["ended"]), (&2.into(), &2.into()));
    assert_eq!(desk.run("list --format ids").out, format!("{}\n", "02".repeat(32)));
}

#[test]
fn a_dry_run_reports_the_same_and_changes_nothing() {
    let desk = three();
    desk.end(3);
    for line in ["--user alice", "--all", "--all --state all", "0101 0303", "--all --except 01"] {
        let dry = desk.run(&format!("expire --json -n {line}")).done().json();
        assert_eq!(dry["dry_run"], true);
        assert_eq!(desk.live(), 2, "{line}");
        let other = three();
        other.end(3);
        let mut real = other.run(&format!("expire --json --yes {line}")).done().json();
        real["dry_run"] = true.into();
        assert_eq!(dry, real, "{line}");
    }
}

#[test]
fn a_purge_removes_what_is_over_and_nothing_else() {
    let desk = three();
    desk.end(1);
    desk.clock.advance(Duration::from_secs(23 * 3600));
    desk.create(4, None);
    desk.clock.advance(Duration::from_secs(2 * 3600));
    let dry = desk.run("purge --expired -n --json").done().json();
    assert_eq!((&dry["purged"], &dry["dry_run"]), (&3.into(), &true.into()));
    assert_eq!(desk.run("list --state all --format ids").out.lines().count(), 4);
    let report = desk.run("purge --expired --json").done().json();
    assert_eq!((&report["purged"], &report["ended"]), (&3.into(), &0.into()));
    assert_eq!(desk.run("list --state all --format ids").out, format!("{}\n", "04".repeat(32)));
    assert_eq!(desk.run("purge").done().out, "removed 0 sessions that had been over\n");
}

#[test]
fn a_purge_counts_what_running_requests_depend_on_as_staying() {
    let desk = three();
    let op = Op::End { by: EndedBy::Application, grace: Duration::from_secs(60) };
    desk.commit(SessionId::from_bytes([1; 32]), op);
    for line in ["purge -n --json", "purge --json"] {
        assert_eq!(desk.run(line).done().json()["purged"], 0);
    }
}

#[test]
fn purge_takes_the_filters_of_list() {
    let desk = three();
    for byte in 1..=3 {
        desk.end(byte);
    }
    let purged = |line: &str| desk.run(line).done().json()["purged"].clone();
    let users = desk.run("list --state all --json").done().json();
    let user = users[0]["user"].as_str().unwrap().to_owned();
    let of_user = purged(&format!("purge --user {user} -n --json"));
    assert_eq!(purged("purge --user nobody --json"), 0);
    assert_eq!(purged("purge --state expired --json"), 0);
    assert_eq!(purged(&format!("purge --user {user} --json")), of_user);
    assert_ne!(of_user, 0);
    assert_eq!(purged(&format!("purge --user {user} --json")), 0);
    let ran = desk.run("purge --state live");
    assert_eq!((ran.code, ran.out.as_str()), (exit::USAGE, ""));
}

#[test]
fn a_purge_that_is_interrupted_says_how_far_it_came() {
    let desk = Desk::new();
    let step = u16::try_from(STEP).unwrap();
    for n in 0..step + 100 {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        desk.create_id(id, None, Draft::default());
    }
    desk.clock.advance(Duration::from_secs(48 * 3600));
    desk.signals.interrupt();
    let ran = desk.run("purge");
    assert_eq!((ran.code, ran.out.as_str()), (exit::INTERRUPTED, ""));
    assert!(
        ran.err.starts_with(&format!("error: interrupted: removed {step} sessions\n")),
        "{}",
        ran.err
    );
    assert_eq!(desk.run("list --state all --format ids").out.lines().count(), 100);
}
