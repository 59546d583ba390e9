//! Bytes on a socket that no HTTP library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fastsession::{CookieOptions, testing};

use crate::app;
use crate::support::{clock, memory};

async fn serve() -> (SocketAddr, String) {
    let store = memory(&clock());
    let alice = testing::signed_in::<(), _>(&store, &CookieOptions::insecure_http(), "alice").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app(store)).await });
    (address, alice.unwrap().cookie)
}

/// Status and body of what comes back; 0 if the connection is closed without an answer.
fn exchange(address: SocketAddr, head: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A server may have seen enough before all is written.
    let _ = stream.write_all(head);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

fn request(lines: &[&[u8]]) -> Vec<u8> {
    let mut head = b"GET /user HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".to_vec();
    for line in lines {
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn security_30_bytes_that_are_no_header_open_nothing_and_stop_nothing() {
    let (address, cookie) = serve().await;
    let good = format!("Cookie: {cookie}");
    assert_eq!(exchange(address, &request(&[good.as_bytes()])), (200, "alice".into()));
    let two: [&[u8]; 2] = [b"Cookie: a=1", good.as_bytes()];
    assert_eq!(exchange(address, &request(&two)), (200, "alice".into()));

    let value = cookie.as_bytes();
    let many: Vec<Vec<u8>> = (0..101).map(|n| format!("X-{n}: 1").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).chain([good.as_bytes()]).collect();
    let rows: [(&str, Vec<u8>); 9] = [
        ("NUL within", request(&[&[b"Cookie: ", &value[..9], b"\0", &value[9..]].concat()])),
        ("NUL behind", request(&[&[good.as_bytes(), b"\0"].concat()])),
        ("a bare CR", request(&[&[b"Cookie: ", &value[..9], b"\r", &value[9..]].concat()])),
        ("obs-fold", request(&[&[b"Cookie: a=1;\r\n ", value].concat()])),
        (
            "obs-fold within",
            request(&[&[b"Cookie: ", &value[..9], b"\r\n\t", &value[9..]].concat()]),
        ),
        ("a space before the colon", request(&[&[b"Cookie : ", value].concat()])),
        (
            "400 KiB",
            request(&[&[b"Cookie: a=", &vec![b'x'; 400 * 1024][..], b"; ", value].concat()]),
        ),
        ("101 headers", request(&many)),
        ("no end", [b"GET /user HTTP/1.1\r\nCookie: ", value, b"\r\n"].concat()),
    ];
    for (what, head) in rows.iter().filter(|(what, _)| *what != "no end") {
        let (status, body) = exchange(address, head);
        let refused = matches!(status, 0 | 400 | 431);
        assert!(refused || (status == 200 && body.is_empty()), "{what}: {status} {body}");
        println!("{what}: {status}");
    }
    // One that never ends is left alone, and keeps nobody from being served.
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.write_all(&rows[8].1).unwrap();
    assert_eq!(exchange(address, &request(&[good.as_bytes()])), (200, "alice".into()));
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A header field that is in no table, without compression.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0, u8::try_from(name.len()).unwrap()];
    out.extend_from_slice(name.as_bytes());
    match u8::try_from(value.len()).unwrap() {
        len @ 0..127 => out.push(len),
        len => out.extend_from_slice(&[127, len - 127]),
    }
    out.extend_from_slice(value);
    out
}

/// HTTP/2 may send each cookie in a field of its own; the server puts them together or does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn security_08_cookies_split_by_http_2_load() {
    let (address, cookie) = serve().await;
    let cookies: [&[&[u8]]; 3] = [
        &[b"a=1", cookie.as_bytes(), b"b=2"],
        &[cookie.as_bytes()],
        &[b"sid=junk", cookie.as_bytes()],
    ];
    for crumbs in cookies {
        let mut headers = [
            field(":method", b"GET"),
            field(":scheme", b"http"),
            field(":path", b"/user"),
            field(":authority", b"localhost"),
        ]
        .concat();
        for crumb in crumbs {
            headers.extend(field("cookie", crumb));
        }
        let (settings, headers_frame, end) = (4, 1, 0x5);
        let sent = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(settings, 0, 0, &[]),
            frame(headers_frame, end, 1, &headers),
        ]
        .concat();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&sent).unwrap();
        assert_eq!(body_of(&mut stream), "alice");
    }
}

/// The first DATA of the one stream.
fn body_of(stream: &mut TcpStream) -> String {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        assert!(!matches!(head[3], 3 | 7), "refused: {head:?} {payload:?}");
        if head[3] == 0 {
            return String::from_utf8(payload).unwrap();
        }
    }
}
