//! How large what a handler awaits is: each request has room for it, waiting or not.

use axum::Router;
use axum::routing::get;
use fastsession::Session;

use crate::support::{Browser, clock, layer, memory};

/// axum puts a handler's future into a box with a request and a response in it, of 512 bytes in
/// all. Beyond 1032 the allocator of the C library takes its slow path for each.
const MOST: usize = 512;

#[tokio::test]
async fn what_a_handler_awaits_is_small() {
    async fn look(session: Session) {
        let (s, n) = (&session, &1);
        let sizes = [
            ("get", size_of_val(&s.get::<u64>("n"))),
            ("get_or_default", size_of_val(&s.get_or_default::<u64>("n"))),
            ("get_or_insert_with", size_of_val(&s.get_or_insert_with("n", || 1))),
            ("insert", size_of_val(&s.insert("n", n))),
            ("remove", size_of_val(&s.remove("n"))),
            ("take", size_of_val(&s.take::<u64>("n"))),
            ("contains", size_of_val(&s.contains("n"))),
            ("keys", size_of_val(&s.keys())),
            ("clear", size_of_val(&s.clear())),
            ("update", size_of_val(&s.update("n", |n: Option<u64>| n.unwrap_or(0)))),
            ("id", size_of_val(&s.id())),
            ("user", size_of_val(&s.user())),
            ("set_label", size_of_val(&s.set_label("phone"))),
            ("save", size_of_val(&s.save())),
            ("touch", size_of_val(&s.touch())),
            ("renew", size_of_val(&s.renew())),
            ("login", size_of_val(&s.login("alice"))),
            ("destroy", size_of_val(&s.destroy())),
            ("destroy_others", size_of_val(&s.destroy_others())),
            ("siblings", size_of_val(&s.siblings())),
        ];
        for (name, size) in sizes {
            assert!(size <= MOST, "{name}: {size}");
        }
    }
    let app = Router::new().route("/", get(look)).layer(layer(memory(&clock())));
    Browser::new(&app).get("/").await;
}
