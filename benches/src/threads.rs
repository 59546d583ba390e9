//! What a second thread is worth.

use std::time::{Duration, Instant};

use axum::Router;
use axum::http::HeaderValue;
use fastsession::MemoryStore;

use crate::apps::{ours, plain};
use crate::browser::Template;
use crate::overhead::{cookies, send};
use crate::report::{Goal, Report, Rounds};
use crate::{Effort, load};

pub(crate) fn run(report: &mut Report, effort: Effort) {
    report.heading("Two threads against one, in process, MemoryStore");
    let ours = ours::router(MemoryStore::new().expect("a store"));
    let cookies = load::single().block_on(cookies(&ours, true));
    let time = effort.pick(Duration::from_secs(1), Duration::from_millis(150));
    for (name, path) in [("read", "/read"), ("write", "/write")] {
        let mut rounds = Rounds::default();
        for _ in 0..effort.pick(9, 3) {
            let own = gain(&ours, path, &cookies, time);
            rounds.add(own, gain(&plain::router(), path, &cookies, time));
        }
        report.add(rounds.row(name, "bare router's own gain", "times", Goal::AtLeast(0.95)));
    }
}

fn gain(app: &Router, path: &'static str, cookies: &[Option<HeaderValue>], time: Duration) -> f64 {
    let one = rate(app, path, cookies, time);
    let two: f64 = std::thread::scope(|scope| {
        let (first, second) = cookies.split_at(cookies.len() / 2);
        let other = scope.spawn(|| rate(app, path, second, time));
        rate(app, path, first, time) + other.join().expect("a thread")
    });
    two / one
}

fn rate(app: &Router, path: &'static str, cookies: &[Option<HeaderValue>], time: Duration) -> f64 {
    let templates: Vec<_> =
        cookies.iter().map(|cookie| Template::new(path, cookie.clone())).collect();
    let mut app = app.clone();
    load::single().block_on(async {
        let (start, mut count) = (Instant::now(), 0.0);
        while start.elapsed() < time {
            for template in &templates {
                send(&mut app, template).await;
                count += 1.0;
            }
        }
        count / start.elapsed().as_secs_f64()
    })
}
