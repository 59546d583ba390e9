//! `key`: the signing keys, and changing them.

use std::error::Error as _;
use std::time::Duration;

use serde::Serialize;

use super::{Context, secret};
use crate::cli::args::{Assent, Format, KeyVerb, Replacing};
use crate::cli::confirm::confirm;
use crate::cli::console::Console;
use crate::cli::exit::{DONE, Failure, NO_SUCH_SESSION, Outcome};
use crate::cli::report::{Listing, Row, View, counted};
use crate::cli::select;
use crate::cli::time::{Instant, rough};
use crate::expiry::Timestamp;
use crate::keyring::{Key, KeyId, KeyRing, KeyState};
use crate::store::{Filter, Freshness, KeyChange, SessionStore, Summary};

/// How long a process that serves may take to follow a change of the ring.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(verb: &KeyVerb, context: Context<'_, '_>) -> Outcome {
    let noted = context.noted(None);
    let (store, Context { console, format, .. }) = (&*noted, context);
    let ring = match verb {
        KeyVerb::List => store.keys(Freshness::Current).await?,
        KeyVerb::Rotate(new) => rotate(store, console, None, new).await?,
        KeyVerb::Import { file, replacing } => {
            // Before the secret is read: the application may hold the keys.
            store.keys(Freshness::Current).await?;
            let key = secret::read(file)?;
            rotate(store, console, Some(key), replacing).await?
        }
        KeyVerb::Retire { key, assent, .. } => retire(store, console, key, assent).await?,
    };
    write(&ring, store.clock().now(), format, console)
}

async fn rotate(
    store: &dyn SessionStore,
    console: &mut Console<'_>,
    key: Option<Key>,
    replacing: &Replacing,
) -> Outcome<KeyRing> {
    let Replacing { retire_after, assent, .. } = replacing;
    let retire_after = *retire_after;
    // Before anybody is asked: the application may hold the keys.
    store.keys(Freshness::Current).await?;
    if let Some(given) = retire_after {
        let longest = store.timing().await?.longest_idle;
        let until = store.clock().now().saturating_add(given);
        let outlives = |session: &Summary| session.expires_at > until;
        let count = select::count(store, Filter::new(), console, outlives).await?.live;
        if given < longest && count > 0 {
            let question = format!(
                "{} is shorter than the longest idle timeout in use, {}: this may end up to {}. \
                 Rotate?",
                rough(given),
                rough(longest),
                counted(count, "live session")
            );
            confirm(console, &question, assent.yes)?;
        }
    }
    let at = store.clock().now();
    let ring = store
        .change_keys(match key {
            Some(key) => KeyChange::RotateTo { key, at, retire_after },
            None => KeyChange::Rotate { at, retire_after },
        })
        .await
        .map_err(not_rotated)?;
    console.note(&format!("key {} signs from now on", ring.active().id()));
    Ok(ring)
}

async fn retire(
    store: &dyn SessionStore,
    console: &mut Console<'_>,
    key: &str,
    assent: &Assent,
) -> Outcome<KeyRing> {
    let id: KeyId = key.to_ascii_lowercase().parse().map_err(|_| {
        Failure::usage("what was given is not a key ID")
            .because("a key ID has 8 hexadecimal digits")
            .next("`key list` shows them")
    })?;
    let ring = store.keys(Freshness::Current).await?;
    // Refuses the active and an unknown key before anybody is asked.
    ring.retired(id).map_err(|error| refused(error, id))?;
    let replaced_at = replaced_at(&ring, id).saturating_add(FOLLOWED_WITHIN);
    let still_its = |session: &Summary| session.last_seen_at < replaced_at;
    let count = select::count(store, Filter::new(), console, still_its).await?.live;
    if count > 0 {
        let sessions = counted(count, "live session");
        let question = format!("Retiring key {id} may end up to {sessions}. Retire it?");
        confirm(console, &question, assent.yes)?;
    }
    let ring = store.change_keys(KeyChange::Retire { key: id }).await;
    let ring = ring.map_err(|error| refused(error, id))?;
    console.note(&format!("key {id} is no longer accepted"));
    Ok(ring)
}

fn not_rotated(error: crate::Error) -> Failure {
    // A full disk is the error of another.
    let is_full_ring = error.is_full() && error.source().is_none();
    let failure = Failure::from(error);
    if is_full_ring {
        failure.next("`key list` shows them, `key retire KEY` ends one")
    } else {
        failure
    }
}

fn refused(error: crate::Error, id: KeyId) -> Failure {
    if error.is_not_found() {
        return Failure::new(NO_SUCH_SESSION, format!("there is no key {id}"))
            .next("`key list` shows those there are");
    }
    error.into()
}

/// When another key began to sign in place of `id`: what was used since then is signed anew.
fn replaced_at(ring: &KeyRing, id: KeyId) -> Timestamp {
    let created = ring.get(id).map_or(Timestamp::MIN, Key::created_at);
    let later = ring.keys().map(Key::created_at).filter(|at| *at > created);
    later.min().unwrap_or_else(|| ring.active().created_at())
}

fn write(ring: &KeyRing, now: Timestamp, format: Format, console: &mut Console<'_>) -> Outcome {
    let rows: Vec<_> = ring.keys().map(|key| KeyRow::new(key, now)).collect();
    let mut listing = Listing::new(format, console.screen, now);
    listing.write(&rows, console)?;
    listing.finish::<KeyRow>(console)?;
    Ok(DONE)
}

/// A key as it is shown. Never its secret.
#[derive(Debug, Serialize)]
struct KeyRow {
    id: String,
    state: &'static str,
    created_at: Instant,
    until: Option<Instant>,
}

impl KeyRow {
    fn new(key: &Key, now: Timestamp) -> Self {
        let (state, until) = match key.state() {
            KeyState::Active => ("active", None),
            KeyState::Retiring { until } if now < until => ("retiring", Some(Instant(until))),
            KeyState::Retiring { until } => ("retired", Some(Instant(until))),
        };
        Self { id: key.id().to_string(), state, created_at: Instant(key.created_at()), until }
    }
}

impl Row for KeyRow {
    const FIELDS: &'static [&'static str] = &["id", "state", "created_at", "until"];
    const HEADINGS: &'static [&'static str] = &["KEY", "STATE", "CREATED", "VERIFIES UNTIL"];
    const CUT: &'static [usize] = &[];
    const LEFT_OUT: &'static [usize] = &[2];

    fn id(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, view: &View) -> Vec<String> {
        let until = self.until.map_or_else(|| "-".into(), |until| view.time(until));
        vec![self.id.clone(), self.state.into(), view.time(self.created_at), until]
    }
}
