//! What a flood of bad cookies may cost.

use std::sync::atomic::{AtomicUsize, Ordering};

use fastsession::SessionStore;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Browser, MINUTE, Probe, clock, with_cookies};
use crate::{app, flood};

/// Counts events.
#[derive(Default)]
struct Lines(AtomicUsize);

static LINES: Lines = Lines(AtomicUsize::new(0));

impl Subscriber for &'static Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        if event.metadata().target().starts_with("fastsession") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn lines() -> usize {
    LINES.0.swap(0, Ordering::SeqCst)
}

#[tokio::test]
async fn security_27_bad_cookies_cost_a_line_each_and_few_a_second() {
    let _guard = tracing::subscriber::set_default(&LINES);
    // A second subscriber keeps events from being taken for unwanted; see the layer's own tests.
    let _second = tracing::Dispatch::new(&LINES);
    let store = Probe::new(&clock());
    let app = app(store.clone());
    let mut browser = Browser::new(&app);
    browser.get("/login").await;
    let copy = browser.jar.0["sid"].clone();
    browser.get("/logout").await;
    lines();
    let mut forged = copy.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'E' } else { 'A' });
    for bad in ["junk".to_owned(), forged, copy, "a".repeat(4000)] {
        store.clock().advance(MINUTE);
        let header = format!("sid={bad}; sid={bad}; sid=1; sid=2");
        with_cookies(&app, "/user", &[header.as_bytes()]).await;
        assert_eq!(lines(), 1, "one line for one request");
        for _ in 0..flood(1000) {
            with_cookies(&app, "/user", &[header.as_bytes()]).await;
        }
        assert_eq!(lines(), 9, "ten lines in one second");
        store.clock().advance(MINUTE);
        with_cookies(&app, "/user", &[header.as_bytes()]).await;
        assert_eq!(lines(), 1, "and then more");
    }
}
