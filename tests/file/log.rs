//! The log: every change by a command has its entry, in the same transaction.

use std::sync::Arc;

use fastsession::store::{
    End, Freshness, KeyChange, LOG_ENTRIES, Note, Query, Sweep, Tally, Target,
};
use fastsession::{EndedBy, Filter, SessionStore};

use crate::fixture::{Fixture, START, create, tool};

fn note(verb: &str) -> Note {
    Note { reason: format!("why {verb}"), user: "ops".into(), ..Note::new(verb, START) }
}

#[tokio::test]
async fn what_is_changed_under_a_note_is_counted_in_one_entry() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let ids = [create(&store, None).await, create(&store, None).await, create(&store, None).await];
    let noted = store.noting(&note("expire")).unwrap();
    for ids in [ids[..2].to_vec(), ids[1..].to_vec()] {
        let target = Target::Sessions { ids, filter: Filter::new() };
        noted.end(End { target, except: None, by: EndedBy::Cli, at: START }).await.unwrap();
    }
    let purge = store.noting(&note("purge")).unwrap();
    purge.sweep(Sweep { at: START, limit: 100, purge: true }).await.unwrap();
    let rotate = store.noting(&note("key rotate")).unwrap();
    rotate.change_keys(KeyChange::Rotate { at: START, retire_after: None }).await.unwrap();
    // Not under a note: not a command's.
    let swept = store.sweep(Sweep { at: START, limit: 100, purge: true }).await.unwrap();
    assert_eq!(swept.removed, 0);

    let log = store.log(10).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| (&*entry.note.verb, entry.tally)).collect();
    let expected = [
        ("key rotate", Tally::default()),
        ("purge", Tally { purged: 3, ..Tally::default() }),
        ("expire", Tally { ended: 3, already_over: 1, ..Tally::default() }),
    ];
    assert_eq!(told, expected);
    assert_eq!(log[2].note, note("expire"));
    assert_eq!(store.log(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_change_has_no_entry() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let key = store.keys(Freshness::Current).await.unwrap().active().id();
    let noted = store.noting(&note("key retire")).unwrap();
    noted.change_keys(KeyChange::Retire { key }).await.unwrap_err();
    assert_eq!(store.log(10).await.unwrap(), []);
}

#[tokio::test]
async fn rule_19_a_log_keeps_its_last_entries() {
    let fixture = Fixture::new();
    let store = Arc::new(fixture.open());
    let waiting: Vec<_> = (0..LOG_ENTRIES + 5)
        .map(|n| store.noting(&note(&format!("{n}"))).unwrap().noted(Tally::default()))
        .collect();
    for answer in waiting {
        answer.await.unwrap();
    }
    let log = store.log(usize::MAX).await.unwrap();
    assert_eq!(log.len() as u64, LOG_ENTRIES);
    assert_eq!((&*log[0].note.verb, &*log.last().unwrap().note.verb), ("10004", "5"));
    let all = Query { filter: Filter::new(), after: None, limit: 1, at: START };
    assert!(store.page(&all).await.unwrap().sessions.is_empty());
}

#[tokio::test]
async fn the_tool_tells_who_did_what_and_why() {
    let fixture = Fixture::new();
    let store = fixture.open();
    create(&store, Some("alice")).await;
    let path = fixture.path();
    assert_eq!(tool(&path, &["log"]).with_code(0).out, "");
    assert_eq!(tool(&path, &["log", "--json"]).with_code(0).out, "[]\n");
    tool(&path, &["expire", "--user", "alice", "-n"]).with_code(0);
    let refused = tool(&path, &["expire", "--user", "alice"]).with_code(2);
    assert!(refused.err.contains("--yes"));
    let why = "stolen\u{1b}[31m phone";
    tool(&path, &["expire", "--user", "alice", "--yes", "--reason", why]).with_code(0);
    tool(&path, &["purge", "--reason", "cron"]).with_code(0);
    tool(&path, &["key", "rotate"]).with_code(0);
    let log = tool(&path, &["log", "--json"]).with_code(0).json();
    let verbs: Vec<_> = log.as_array().unwrap().iter().map(|entry| &entry["verb"]).collect();
    assert_eq!(verbs, ["key rotate", "purge", "expire"]);
    let entry = &log[2];
    assert_eq!((&entry["selector"], &entry["matched"]), (&"--user alice".into(), &1.into()));
    assert_eq!(entry["reason"], why);
    assert!(!entry["user"].as_str().unwrap().is_empty() && entry["at"].is_string(), "{entry}");
    let table = tool(&path, &["log", "--limit", "3"]).with_code(0).out;
    assert!(table.contains("stolen\\u{1b}[31m phone") && !table.contains('\u{1b}'), "{table}");
    let csv = tool(&path, &["log", "--format", "csv", "--limit", "1"]).with_code(0).out;
    assert!(csv.starts_with("number,at,user,") && csv.lines().count() == 2, "{csv}");
}
