//! Everything that is printed, searched for secrets: the tests of the layer and of the tool at
//! TRACE, with their panics, and a server and the tool with their command lines.
//!
//! What is searched for is not a list of known secrets but their shape, so that none can be
//! forgotten: a token is 46, a MAC 43 characters of base64url; printed as numbers, either is a
//! long list of bytes. Values of tests bear the word `sentinel`.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fastsession::{CookieOptions, RedbStore, SessionStore, testing};

/// What looks like a secret in `text`.
fn secrets(text: &str) -> Vec<String> {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(|c| !is_base64(c)).filter(|word| {
        let has = |class: fn(&char) -> bool| word.chars().any(|c| class(&c));
        // Hexadecimal IDs have 64 characters, names of tests no capitals.
        (43..=46).contains(&word.len())
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_lowercase)
            && has(char::is_ascii_digit)
    });
    let mut found: Vec<String> = words.map(Into::into).collect();
    for list in text.split(['[', ']']) {
        let numbers = list.split(',').map(|number| number.trim().parse::<u8>());
        if numbers.clone().count() >= 32 && numbers.flatten().count() >= 30 {
            found.push(list.into());
        }
    }
    found.extend(text.lines().filter(|line| line.contains("sentinel")).map(Into::into));
    found
}

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    let found = secrets(text);
    assert!(found.is_empty(), "{what} shows {found:?}");
}

#[test]
fn a_secret_is_found_in_whatever_form() {
    let token = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIg";
    for text in [
        format!("cookie=1.bbc8774f.{token}.x"),
        format!("token {token}"),
        format!("{:?}", [7; 34]),
        format!("{:#?}", [7; 32]),
        "k=payload-sentinel".to_owned(),
    ] {
        assert_eq!(secrets(&text).len(), 1, "{text}");
    }
    let plain = "SessionId(d96744971605751564a0aa7a17adb31ea68768993911af9e728f59c4884926e8) \
                 security_24_nothing_that_is_printed_shows_a_secret [1, 2, 3]";
    assert_clean("an ID", plain);
}

/// Runs this binary's own tests again, at TRACE.
#[test]
fn security_24_nothing_that_tests_print_shows_a_secret() {
    if std::env::var_os(crate::support::TRACE).is_some() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--skip", "leaks::", "--skip", "floods::"])
        .env(crate::support::TRACE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.matches("session concluded").count() > 50, "nothing was traced");
    assert_clean("a test at TRACE", &text);
}

/// What a process's command line and environment show.
fn seen_from_outside(child: &Child) -> String {
    ["cmdline", "environ"]
        .map(|file| {
            let path = format!("/proc/{}/{file}", child.id());
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        })
        .join("\n")
}

#[tokio::test]
async fn security_24_nothing_that_is_printed_shows_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let store = RedbStore::open(&file).unwrap();
    let cookie = CookieOptions::insecure_http();
    let alice = testing::signed_in::<(), _>(&store, &cookie, "alice").await.unwrap();
    let id = alice.id.to_string();
    let secret = alice.cookie.split_once('=').unwrap().1.to_owned();
    assert!(!secrets(&secret).is_empty());

    for (args, stdin) in [
        (vec!["list"], None),
        (vec!["list", "--json", "--state", "all"], None),
        (vec!["inspect", &id], None),
        (vec!["inspect", &id, "--json"], None),
        (vec!["inspect", "--cookie", "-"], Some(alice.cookie.as_str())),
        (vec!["inspect", "--cookie", "-", "--json"], Some(secret.as_str())),
        (vec!["inspect", "--cookie", "-"], Some(&secret[..secret.len() - 1])),
        (vec!["key", "list"], None),
        (vec!["key", "rotate", "--yes", "--json"], None),
        (vec!["key", "list", "--json"], None),
        (vec!["stats", "--json"], None),
        (vec!["expire", &id], None),
        (vec!["log", "--json"], None),
        (vec!["purge"], None),
    ] {
        let (text, seen) = tool(&file, &args, stdin);
        assert_clean(&format!("{args:?}"), &text);
        assert_clean(&format!("the process of {args:?}"), &seen);
    }
    // A cookie in the wrong place is in the command line, where the caller put it; it is not
    // printed on top of that. None of somebody's: command lines are searched for those.
    let token = secret.split('.').nth(2).unwrap();
    let cookie = secret.replace(token, "Tm9ib2R5J3MgdG9rZW4sIGFuZCBub25lIHRoYXQgd2FzIQ");
    for args in
        [vec!["inspect", &cookie], vec!["expire", &cookie], vec!["list", "--except", &cookie]]
    {
        assert_clean("a refusal", &tool(&file, &args, None).0);
    }
    store.close().await.unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let raw = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, token).unwrap();
    for needle in [token.as_bytes(), &raw, &raw[2..]] {
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "in the file");
    }
}

/// Runs the tool; what it prints, and what others see of its process.
fn tool(file: &Path, args: &[&str], stdin: Option<&str>) -> (String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fastsession"))
        .args(args)
        .arg("--db")
        .arg(file)
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let seen = seen_from_outside(&child);
    let mut input = child.stdin.take().unwrap();
    // It may not want any.
    let _ = std::io::Write::write_all(&mut input, stdin.unwrap_or_default().as_bytes());
    drop(input);
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    (text, seen)
}
