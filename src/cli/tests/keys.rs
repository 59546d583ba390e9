//! `key`.

use super::*;
use crate::keyring::Key;

fn ring(desk: &Desk) -> serde_json::Value {
    desk.run("key list --json").done().json()
}

#[test]
fn keys_are_listed_without_secrets() {
    let desk = Desk::new();
    let keys = ring(&desk);
    let expected = serde_json::json!([{
        "id": keys[0]["id"].as_str().unwrap(), "state": "active",
        "created_at": "2023-11-14T22:13:20Z", "until": null,
    }]);
    assert_eq!(keys, expected);
    assert!(desk.run("key list").done().out.starts_with("KEY "));
    assert!(desk.run("key list --format csv").done().out.starts_with("id,state,"));
}

#[test]
fn rotating_keeps_the_former_key_for_the_longest_idle_timeout() {
    let desk = Desk::new();
    desk.create(1, Some("alice"));
    let former = ring(&desk)[0]["id"].clone();
    let rotated = desk.run("key rotate --json -q").done().json();
    assert_eq!(rotated, ring(&desk));
    assert_ne!(rotated[0]["id"], former);
    let expected = serde_json::json!({
        "id": former, "state": "retiring",
        "created_at": "2023-11-14T22:13:20Z", "until": "2023-11-15T22:13:20Z",
    });
    assert_eq!(rotated[1], expected);
}

#[test]
fn a_shorter_time_asks_and_says_how_many_it_may_end() {
    let desk = Desk::new();
    desk.run("key rotate --retire-after 1h -q").done();
    desk.create(1, Some("alice"));
    let ran = desk.run("key rotate --retire-after 1h");
    assert_eq!(ran.code, exit::USAGE);
    assert!(ran.err.contains("up to 1 live session") && ran.err.contains("--yes"), "{}", ran.err);
    assert_eq!(ring(&desk).as_array().unwrap().len(), 2);
    desk.run("key rotate --retire-after 1h --yes -q").done();
    desk.run("key rotate --retire-after 24h -q").done();
    assert_eq!(ring(&desk).as_array().unwrap().len(), 4);
    let desk = desk.interactive("no\n");
    assert_eq!(desk.run("key rotate --retire-after 0s").code, exit::FAILED);
}

#[test]
fn retiring_says_how_many_it_may_end_and_asks() {
    let desk = Desk::new();
    desk.create(1, Some("alice"));
    desk.create(2, Some("alice"));
    let former = ring(&desk)[0]["id"].as_str().unwrap().to_owned();
    desk.clock.advance(Duration::from_secs(60));
    desk.run("key rotate -q").done();
    desk.clock.advance(Duration::from_secs(60));
    // Seen since the rotation, so its cookie has been signed anew.
    let access = Access { timeouts: None, ..Access::at(desk.clock.now()) };
    desk.store.inner.touch(&SessionId::from_bytes([2; 32]), &access);
    let ran = desk.run(&format!("key retire {former}"));
    assert_eq!(ran.code, exit::USAGE);
    assert!(ran.err.contains("up to 1 live session."), "{}", ran.err);
    let ran = desk.run(&format!("key retire {former} --yes --json -q")).done();
    assert_eq!(ran.json().as_array().unwrap().len(), 1);
}

#[test]
fn the_active_and_an_unknown_key_cannot_be_retired() {
    let desk = Desk::new();
    let active = ring(&desk)[0]["id"].as_str().unwrap().to_owned();
    let ran = desk.run(&format!("key retire {active} --yes"));
    assert_eq!(ran.code, exit::FAILED);
    assert!(ran.err.contains("active"), "{}", ran.err);
    let unknown = if active == "00000000" { "00000001" } else { "00000000" };
    assert_eq!(desk.run(&format!("key retire {unknown}")).code, exit::NO_SUCH_SESSION);
    assert_eq!(desk.run("key retire nonsense").code, exit::USAGE);
    assert_eq!(ring(&desk).as_array().unwrap().len(), 1);
}

#[test]
fn the_applications_own_keys_are_its_own() {
    let own = KeyRing::new([Key::generate().unwrap()]).unwrap();
    let desk = Desk::with(|store| store.key_ring(own));
    let ran = desk.run("key rotate");
    assert_eq!(ran.code, exit::FAILED);
    assert!(ran.err.contains("the application holds the keys"), "{}", ran.err);
}
