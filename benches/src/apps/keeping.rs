//! The same layer by hand, [`floor`](super::floor), that keeps what a session promises, still with
//! nothing general about it.
//!
//! Beside the floor: the cookie of the name is the only one, its key is one of a ring that may be
//! exchanged, and its MAC is compared in constant time; a row has its deadlines, which are looked
//! at when it is read and once more when it is changed, with the instant of either; an ending of
//! everyone's sessions is looked for; a change is kept until the response is known to be none of
//! the server's errors, and then merged into the row as it is by then, so that two requests that
//! change different keys both do; each commit counts. A row that was read is kept for the handler's
//! next question, and clones of the handle share it.
//!
//! There are no renewal, no logout and no marks of it, no user, no realm, no record of activity,
//! no bound of anything, no errors, and no store to choose.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use axum::Router;
use axum::extract::Extension;
use axum::http::HeaderValue;
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use fastsession::Clock;

use super::floor::{self, Done, Drawn, Layered, Least, NAME, TOKEN};
use super::next_value;

const KEY: &str = "n";
/// Of a row: created, last seen, absolute deadline, idle timeout, each eight bytes, version.
const HEADER: usize = 40;
const HOUR: u64 = 3_600_000;

type Row = Arc<[u8]>;
type Changes = Vec<(Box<str>, Vec<u8>)>;
type Handle = Arc<Inner>;

pub(crate) fn router() -> Router {
    let router = Router::new()
        .route("/ignore", get(async |_: Extension<Handle>| "ok"))
        .route("/read", get(async |handle: Extension<Handle>| handle.read()))
        .route("/count", get(async |handle: Extension<Handle>| handle.count()))
        .route("/write", get(async |handle: Extension<Handle>| handle.write()));
    super::with_the_others(router, &["/ignore", "/read", "/write"]).layer(Layered::<Inner>::new())
}

pub(crate) struct Shared {
    /// By their ID in a cookie.
    ring: RwLock<Arc<Vec<[u8; 8]>>>,
    clock: Clock,
    rows: [RwLock<HashMap<[u8; 32], Row>>; 64],
    all_ended: AtomicBool,
    drawn: Drawn,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            ring: RwLock::new(Arc::new(vec![*b"0badc0de"])),
            clock: Clock::system(),
            rows: [(); 64].map(|()| RwLock::default()),
            all_ended: AtomicBool::new(false),
            drawn: Drawn::default(),
        }
    }
}

impl Shared {
    fn now(&self) -> u64 {
        self.clock.now().as_millis().unsigned_abs()
    }

    fn rows(&self, id: &[u8; 32]) -> &RwLock<HashMap<[u8; 32], Row>> {
        &self.rows[usize::from(id[0]) % self.rows.len()]
    }

    fn is_live(&self, row: &[u8], now: u64) -> bool {
        let deadline = (field(row, 1) + field(row, 3)).min(field(row, 2));
        !self.all_ended.load(Ordering::Acquire) && now < deadline
    }
}

pub(crate) struct Inner {
    shared: Arc<Shared>,
    cookie: Option<HeaderValue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    found: Option<([u8; 32], Option<Row>)>,
    changes: Changes,
    done: Done,
}

impl Inner {
    fn read(&self) -> String {
        let mut state = self.state.lock().expect("nobody panics");
        state.done.asked = true;
        if state.found.is_none()
            && let Some(id) = self.id()
        {
            let now = self.shared.now();
            let rows = self.shared.rows(&id).read().expect("nobody panics");
            let row = rows.get(&id).filter(|row| self.shared.is_live(row, now)).cloned();
            state.found = Some((id, row));
        }
        let row = state.found.as_ref().and_then(|(_, row)| row.as_ref());
        row.and_then(|row| value(row, KEY)).unwrap_or(0).to_string()
    }

    fn write(&self) -> &'static str {
        let mut state = self.state.lock().expect("nobody panics");
        state.done.asked = true;
        state.changes.push((KEY.into(), next_value().to_le_bytes().to_vec()));
        "ok"
    }

    /// Exact, whoever else counts.
    fn count(&self) -> String {
        let mut state = self.state.lock().expect("nobody panics");
        state.done.asked = true;
        let mut n = 0;
        self.commit(&mut state, |row| {
            n = value(row, KEY).unwrap_or(0) + 1;
            vec![(KEY.into(), n.to_le_bytes().to_vec())]
        });
        n.to_string()
    }

    /// The ID of the cookie's token, if there is one such cookie and its MAC is right.
    fn id(&self) -> Option<[u8; 32]> {
        let header = self.cookie.as_ref()?.as_bytes();
        let mut ours = header.split(|byte| *byte == b';').filter_map(|pair| {
            let pair = pair.strip_prefix(b" ").unwrap_or(pair);
            pair.strip_prefix(NAME)
        });
        let sealed = ours.next().filter(|_| ours.next().is_none())?.strip_prefix(b"1.")?;
        let (key, sealed) = sealed.split_first_chunk::<8>()?;
        let ring = self.shared.ring.read().expect("nobody panics").clone();
        ring.iter().find(|known| *known == key)?;
        let (token, mac) = sealed.strip_prefix(b".")?.split_at_checked(46)?;
        let (mut decoded, mut given) = ([0; TOKEN], [0; 32]);
        BASE64.decode_slice(token, &mut decoded).ok()?;
        BASE64.decode_slice(mac.strip_prefix(b".")?, &mut given).ok()?;
        let differs = floor::mac_of(token).iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
        (differs == 0).then(|| floor::hash(&decoded))
    }

    fn commit(&self, state: &mut State, changes: impl FnOnce(&[u8]) -> Changes) {
        let known = state.found.as_ref().map(|(id, _)| *id).or_else(|| self.id());
        let now = self.shared.now();
        if let Some(id) = known {
            let mut rows = self.shared.rows(&id).write().expect("nobody panics");
            if let Some(row) = rows.get_mut(&id).filter(|row| self.shared.is_live(row, now)) {
                *row = merged(row, now, &changes(row));
                state.found = Some((id, Some(row.clone())));
                return;
            }
        }
        let token = self.shared.drawn.next();
        let id = floor::hash(&token);
        let mut header = [0; HEADER];
        for (place, value) in [now, now, now + 720 * HOUR, 24 * HOUR].into_iter().enumerate() {
            header[place * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let row = merged(&header, now, &changes(&header));
        self.shared.rows(&id).write().expect("nobody panics").insert(id, row.clone());
        state.found = Some((id, Some(row)));
        state.done.set_cookie = Some(floor::set_cookie(&token));
    }
}

impl Least for Inner {
    type Shared = Shared;

    fn new(shared: Arc<Shared>, cookie: Option<HeaderValue>) -> Self {
        Self { shared, cookie, state: Mutex::default() }
    }

    fn close(&self, response: &mut Response) {
        let mut state = self.state.lock().expect("nobody panics");
        if !state.changes.is_empty() && !response.status().is_server_error() {
            let changes = std::mem::take(&mut state.changes);
            self.commit(&mut state, |_| changes);
        }
        state.done.dress(response.headers_mut());
    }
}

fn field(row: &[u8], number: usize) -> u64 {
    u64::from_le_bytes(row[number * 8..][..8].try_into().expect("its length"))
}

/// Key and value of each entry, with their lengths before them.
fn entries(row: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = &row[HEADER..];
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first()?;
        let (key, after) = after.split_at(usize::from(*length));
        let (length, after) = after.split_first()?;
        let (value, after) = after.split_at(usize::from(*length));
        rest = after;
        Some((key, value))
    })
}

fn value(row: &[u8], key: &str) -> Option<u64> {
    let (_, value) = entries(row).find(|(known, _)| *known == key.as_bytes())?;
    value.try_into().ok().map(u64::from_le_bytes)
}

/// The row after one more commit: what is changed, then what is left of the others.
fn merged(row: &[u8], now: u64, changes: &Changes) -> Row {
    let mut out = Vec::with_capacity(row.len() + 32);
    out.extend_from_slice(&row[..HEADER]);
    out[8..16].copy_from_slice(&now.to_le_bytes());
    out[32..].copy_from_slice(&(field(row, 4) + 1).to_le_bytes());
    let mut put = |key: &[u8], value: &[u8]| {
        for part in [key, value] {
            out.push(u8::try_from(part.len()).expect("short"));
            out.extend_from_slice(part);
        }
    };
    for (key, value) in changes {
        put(key.as_bytes(), value);
    }
    for (key, value) in entries(row) {
        if changes.iter().all(|(changed, _)| changed.as_bytes() != key) {
            put(key, value);
        }
    }
    out.into()
}
