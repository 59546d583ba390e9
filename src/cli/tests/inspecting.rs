//! `inspect`, of sessions and of cookies.

use super::*;
use crate::id::SessionToken;
use crate::record::Changes;

fn with_data() -> Desk {
    let desk = Desk::new();
    let mut draft = Draft::default();
    let mut set = |key: &str, value: &[u8]| draft.changes.set(key, value.to_vec()).unwrap();
    set("count", &[3]);
    set("secret", b"\xa8sentinel");
    set("raw", &[0xc4, 2, 0, 255]);
    desk.create_id([1; 32], Some("alice"), draft);
    desk
}

#[test]
fn a_session_is_shown_with_its_data() {
    let desk = with_data();
    let block = desk.run("inspect 01").done().out;
    for part in ["alice", "live", "2023-11-14T22:13:20Z", "count   3\n", "\"sentinel\""] {
        assert!(block.contains(part), "{part} is missing in\n{block}");
    }
    let json = desk.run("show 01 --json").done().json();
    let data = serde_json::json!({
        "count": 3, "secret": "sentinel", "raw": {"$bytes": "00ff"},
    });
    assert_eq!(json["data"], data);
    assert_eq!(json["idle_timeout_seconds"], 86_400);
    assert_eq!(json["id"], "01".repeat(32));
}

#[test]
fn redaction_hides_values() {
    let desk = with_data();
    for line in ["inspect 01 --redact", "inspect 01 --redact --json"] {
        let out = desk.run(line).done().out;
        assert!(out.contains("secret") && out.contains("text"), "{out}");
        assert!(!out.contains("sentinel"), "{out}");
    }
}

#[test]
fn several_are_shown_though_one_is_missing() {
    let desk = with_data();
    desk.create(2, None);
    let ran = desk.run("inspect 01 77 02 --json");
    assert_eq!((ran.code, ran.json().as_array().unwrap().len()), (exit::NO_SUCH_SESSION, 2));
    let lines = desk.run("inspect 01 02 --format jsonl").done().out;
    assert_eq!(lines.lines().count(), 2);
    assert_eq!(desk.run("inspect 0").code, exit::NO_SUCH_SESSION);
    assert_eq!(desk.run("inspect").code, exit::USAGE);
}

struct Browser {
    desk: Desk,
    token: SessionToken,
}

impl Browser {
    fn new() -> Self {
        let desk = Desk::new();
        let token = SessionToken::generate().unwrap();
        let changes = Changes::new();
        let draft = Draft { changes, ..Draft::default() };
        desk.create_id(*token.id().as_bytes(), Some("alice"), draft);
        Self { desk, token }
    }

    fn ring(&self) -> KeyRing {
        self.desk.store.keys(Freshness::Current).now().ok().unwrap().unwrap()
    }

    fn cookie(&self, name: &str) -> String {
        seal(&self.ring(), &Scope::cookie(name), &self.token)
    }

    #[track_caller]
    fn judge(&mut self, input: &str, flags: &str) -> (u8, serde_json::Value) {
        self.desk.stdin = input.into();
        let ran = self.desk.run(&format!("inspect --cookie - --json {flags}"));
        for secret in input.split('.').filter(|part| part.len() > 40) {
            assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{ran:?}");
        }
        (ran.code, ran.json())
    }
}

#[test]
fn a_cookie_names_its_key_and_session() {
    let mut browser = Browser::new();
    let key: serde_json::Value = browser.ring().active().id().to_string().into();
    let (host, plain, own) =
        (browser.cookie("__Host-sid"), browser.cookie("sid"), browser.cookie("own"));
    let inputs = [
        (host.clone(), ""),
        (format!("{plain}\n"), ""),
        (format!("own={own}"), ""),
        (own, "--cookie-name own"),
        (format!("Cookie: theme=dark; __Host-sid={host}; x=\"1\"\r\n"), ""),
        (format!("set-cookie: __Host-sid={host}; Path=/; Secure; HttpOnly\r\n"), ""),
    ];
    for (input, flags) in inputs {
        let (code, verdict) = browser.judge(&input, flags);
        assert_eq!(code, exit::DONE, "{verdict}");
        assert_eq!(verdict["accepted"], true);
        assert_eq!((&verdict["key"], &verdict["session"]["user"]), (&key, &"alice".into()));
    }
    let text = browser.desk.run("inspect --cookie -");
    assert_eq!(text.code, exit::DONE);
    assert!(text.out.contains("active"), "{}", text.out);
}

#[test]
fn a_refused_cookie_is_told_exactly_why() {
    let mut browser = Browser::new();
    let good = browser.cookie("__Host-sid");
    let other = browser.cookie("other");
    let swapped = if good.ends_with('A') { 'E' } else { 'A' };
    let altered = format!("{}{swapped}", &good[..good.len() - 1]);
    let foreign = KeyRing::generate(NOW).unwrap();
    let foreign = seal(&foreign, &Scope::cookie("sid"), &browser.token);
    let id = browser.token.id().to_string();
    let cases = [
        (&*id, "not in the form"),
        (&good[..50], "not in the form"),
        (&*altered, "signature is wrong"),
        (&*other, "--cookie-name"),
        (&*foreign, "not in the ring"),
    ];
    for (input, reason) in cases {
        let (code, verdict) = browser.judge(input, "");
        assert_eq!((code, &verdict["accepted"]), (exit::NO_SUCH_SESSION, &false.into()));
        assert!(verdict["reason"].as_str().unwrap().contains(reason), "{verdict}");
    }
}

#[test]
fn a_good_cookie_of_no_live_session_says_so() {
    let mut browser = Browser::new();
    let old = browser.cookie("sid");
    browser.desk.run("key rotate").code.eq(&exit::DONE).then_some(()).unwrap();
    let (_, verdict) = browser.judge(&old, "");
    assert_eq!(verdict["signed_by_active"], false);
    browser.desk.run("expire --all --yes").code.eq(&exit::DONE).then_some(()).unwrap();
    let (code, verdict) = browser.judge(&old, "");
    assert_eq!((code, &verdict["accepted"]), (exit::NO_SUCH_SESSION, &true.into()));
    assert!(verdict["reason"].as_str().unwrap().contains("by cli"), "{verdict}");
    browser.token = SessionToken::generate().unwrap();
    let unknown = browser.cookie("sid");
    let (code, verdict) = browser.judge(&unknown, "");
    assert_eq!(code, exit::NO_SUCH_SESSION);
    assert!(verdict["reason"].as_str().unwrap().contains("not here"), "{verdict}");
}

#[test]
fn of_several_cookies_those_are_refused_that_the_application_refuses() {
    let mut browser = Browser::new();
    let good = browser.cookie("sid");
    let token = std::mem::replace(&mut browser.token, SessionToken::generate().unwrap());
    let unknown = browser.cookie("sid");
    browser.token = SessionToken::generate().unwrap();
    browser.desk.create_id(*browser.token.id().as_bytes(), None, Draft::default());
    let second = browser.cookie("sid");
    let other = browser.cookie("__Host-sid");
    browser.token = token;
    let bad = "sid=1; ".repeat(4);
    let cases = [
        (format!("sid={good}; sid={good}"), [None, None].to_vec()),
        (format!("sid={good}; sid={unknown}"), [None, Some("not here")].to_vec()),
        (format!("sid={good}; __Host-sid={other}"), [None, None].to_vec()),
        (format!("sid={good}; sid={second}"), [Some("opens neither"); 2].to_vec()),
        (
            format!("{bad}sid={good}"),
            [Some("not in the form"); 4].into_iter().chain([Some("5 cookies")]).collect(),
        ),
    ];
    for (input, reasons) in cases {
        let (code, verdicts) = browser.judge(&input, "");
        let opens = reasons.contains(&None);
        assert_eq!(code, if opens { exit::DONE } else { exit::NO_SUCH_SESSION }, "{verdicts}");
        for (verdict, reason) in verdicts.as_array().unwrap().iter().zip(reasons) {
            let said = verdict["reason"].as_str();
            assert!(said.zip(reason).map_or(said == reason, |(all, part)| all.contains(part)));
        }
    }
}

#[test]
fn input_without_a_session_cookie_is_no_verdict() {
    let mut desk = Desk::new();
    desk.stdin = "theme=dark; lang=de".into();
    assert_eq!(desk.run("inspect --cookie -").code, exit::NO_SUCH_SESSION);
    for nothing in ["", " \n", "Cookie:\n"] {
        desk.stdin = nothing.into();
        let ran = desk.run("inspect --cookie -");
        assert_eq!(ran.code, exit::USAGE);
        assert!(ran.err.contains("nothing on standard input"), "{}", ran.err);
    }
    desk.stdin = "x".repeat(20_000);
    assert_eq!(desk.run("inspect --cookie -").code, exit::USAGE);
    assert_eq!(desk.run("inspect --cookie-name sid 01").code, exit::USAGE);
}
