//! `inspect --cookie -`: which key signed a cookie, whose it is, or why it is refused.

use std::io::{BufRead, Read as _};

use serde::Serialize;
use zeroize::Zeroizing;

use super::Context;
use crate::cli::args::Format;
use crate::cli::console::{Console, unreadable};
use crate::cli::exit::{DONE, Failure, NO_SUCH_SESSION, Outcome};
use crate::cli::report::{self, SessionRow, escape};
use crate::cli::time::Instant;
use crate::cookie::MAX_CANDIDATES;
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::keyring::{KeyId, KeyRing, Refusal, SEALED_LEN, Scope, unseal};
use crate::record::State;
use crate::store::{Freshness, SessionStore, Summary};

/// The most that is read: what the middleware takes, too.
const MAX_INPUT: usize = 16 * 1024;
/// Names tried for a bare value: the default, and that of plain HTTP.
const DEFAULT_NAMES: [&str; 2] = ["__Host-sid", "sid"];

/// What a cookie is worth. Never its token.
#[derive(Debug, Serialize)]
struct Verdict {
    /// The name its signature was checked for.
    name: String,
    accepted: bool,
    key: Option<String>,
    /// `false`: it is signed anew on its next use.
    signed_by_active: Option<bool>,
    session: Option<SessionRow>,
    /// Why it opens no session.
    reason: Option<String>,
}

pub(crate) async fn run(source: &str, name: Option<&str>, mut context: Context<'_, '_>) -> Outcome {
    if source != "-" {
        // Not repeated: it may be the cookie.
        return Err(Failure::usage("a cookie is read from standard input, never from arguments")
            .because("arguments are visible to every process of the machine")
            .next("write `--cookie -` and pipe the cookie in"));
    }
    let input = read(context.console.stdin)?;
    let ring = context.store.keys(Freshness::Current).await?;
    let mut verdicts = Vec::new();
    for (names, value) in candidates(&input, name)? {
        verdicts.push(judge(context.store, &ring, &names, value).await?);
    }
    refuse_ambiguous(&mut verdicts);
    write(&verdicts, &mut context)?;
    let live = verdicts.iter().any(|verdict| verdict.reason.is_none());
    Ok(if live { DONE } else { NO_SUCH_SESSION })
}

fn read(stdin: &mut dyn BufRead) -> Outcome<Zeroizing<String>> {
    let mut input = Zeroizing::new(String::with_capacity(MAX_INPUT + 1));
    stdin.take(MAX_INPUT as u64 + 1).read_to_string(&mut input).map_err(|e| unreadable(&e))?;
    if input.len() > MAX_INPUT {
        return Err(Failure::usage("standard input holds more than a Cookie header may")
            .because(format!("at most {MAX_INPUT} bytes are read")));
    }
    Ok(input)
}

/// The values in `input` that may be session cookies, each with the names it may have.
fn candidates<'a>(
    input: &'a str,
    wanted: Option<&'a str>,
) -> Outcome<Vec<(Vec<&'a str>, &'a str)>> {
    let header = header_value(input.trim());
    if header.is_empty() {
        return Err(Failure::usage("there is nothing on standard input")
            .next("pipe the cookie in, or paste it and press Ctrl-D"));
    }
    if !header.contains('=') {
        return Ok(vec![(wanted.map_or(DEFAULT_NAMES.to_vec(), |name| vec![name]), header)]);
    }
    let pairs = header.split(';').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.trim(), value.trim())).collect();
    let is_session = |name: &str, value: &str| match wanted {
        Some(wanted) => name == wanted,
        None => DEFAULT_NAMES.contains(&name) || value.len() == SEALED_LEN,
    };
    let found: Vec<_> = pairs
        .into_iter()
        .filter(|(name, value)| is_session(name, value))
        .map(|(name, value)| (vec![name], value))
        .collect();
    if found.is_empty() {
        return Err(Failure::new(NO_SUCH_SESSION, "there is no session cookie on standard input")
            .next("if it has a name of its own, give that with --cookie-name"));
    }
    Ok(found)
}

/// Without the name of the header, if it was copied with it.
fn header_value(line: &str) -> &str {
    let names = ["cookie", "set-cookie"];
    match line.split_once(':') {
        Some((name, value)) if names.iter().any(|known| name.eq_ignore_ascii_case(known)) => {
            value.trim()
        }
        _ => line,
    }
}

async fn judge(
    store: &dyn SessionStore,
    ring: &KeyRing,
    names: &[&str],
    value: &str,
) -> Outcome<Verdict> {
    let now = store.clock().now();
    let mut refusal = Refusal::Malformed;
    for name in names {
        match unseal(ring, &Scope::cookie(name), value.as_bytes(), now) {
            Ok(unsealed) => {
                let session = find(store, unsealed.id, now).await?;
                return Ok(Verdict {
                    name: (*name).into(),
                    accepted: true,
                    key: Some(unsealed.key.to_string()),
                    signed_by_active: Some(unsealed.signed_by_active),
                    reason: absence(session.as_ref()),
                    session: session.map(SessionRow::from),
                });
            }
            Err(found) => refusal = found,
        }
    }
    Ok(Verdict {
        name: names.join(" or "),
        accepted: false,
        key: None,
        signed_by_active: None,
        session: None,
        reason: Some(explain(refusal, ring, &names.join(" or "))),
    })
}

/// Of several cookies of one name the application opens the one that opens a live session, if they
/// are few and it is the only one.
fn refuse_ambiguous(verdicts: &mut [Verdict]) {
    let all: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            let live = verdict.session.as_ref().filter(|_| verdict.reason.is_none());
            (verdict.name.clone(), live.map(|row| row.id.to_string()))
        })
        .collect();
    for (verdict, (name, id)) in verdicts.iter_mut().zip(&all).filter(|(_, (_, id))| id.is_some()) {
        let others = || all.iter().filter(|(other, _)| other == name);
        let count = others().count();
        if count > MAX_CANDIDATES {
            verdict.reason = Some(format!(
                "it comes with {count} cookies of its name, and the application looks at none where \
                 there are more than {MAX_CANDIDATES}"
            ));
        } else if others().any(|(_, other)| other.is_some() && other != id) {
            let why = "another cookie of its name opens another live session: the application \
                       opens neither";
            verdict.reason = Some(why.into());
        }
    }
}

async fn find(store: &dyn SessionStore, id: SessionId, now: Timestamp) -> Outcome<Option<Summary>> {
    let found = store.inspect(&id).await?;
    Ok(found.map(|found| Summary::new(id, &found.record, &found.endings, now)))
}

fn absence(session: Option<&Summary>) -> Option<String> {
    let Some(session) = session else {
        return Some(
            "its signature is right, but its session is not here: never saved, purged, \
                     or in another database"
                .into(),
        );
    };
    let at = session.ended_at.map(|at| format!(" at {}", Instant(at))).unwrap_or_default();
    match session.state {
        State::Live => None,
        State::Expired => Some(format!("its session timed out{at}")),
        State::Superseded => Some(format!("its session was renewed{at} and has another cookie")),
        State::Ended => {
            let by = session.ended_by.map_or("", crate::record::EndedBy::as_str);
            Some(format!("its session was ended{at}, by {by}"))
        }
    }
}

fn explain(refusal: Refusal, ring: &KeyRing, name: &str) -> String {
    match refusal {
        Refusal::Malformed => {
            "it is not in the form of a session cookie: damaged, cut, or of another program".into()
        }
        Refusal::UnknownKey(id) => unknown_key(id, ring),
        Refusal::BadSignature => format!(
            "its signature is wrong: altered, or not signed for a cookie named {name} \
             (--cookie-name gives another name)"
        ),
    }
}

fn unknown_key(id: KeyId, ring: &KeyRing) -> String {
    match ring.get(id) {
        Some(_) => format!("the time of key {id}, which signed it, is over"),
        None => format!("it names key {id}, which is not in the ring: retired, or of another ring"),
    }
}

fn write(verdicts: &[Verdict], context: &mut Context<'_, '_>) -> Outcome<()> {
    match (context.format, verdicts) {
        (Format::Json, [_, _, ..]) => {
            let text = report::to_pretty_json(&verdicts)?;
            context.console.print(&format!("{text}\n"))
        }
        _ => verdicts.iter().try_for_each(|verdict| {
            report::object(context.console, context.format, verdict, |console| {
                verdict.text(console)
            })
        }),
    }
}

impl Verdict {
    fn text(&self, console: &Console<'_>) -> String {
        let signer = self.key.as_ref().zip(self.signed_by_active).map(|(key, active)| {
            let note =
                if active { "active" } else { "retiring: it is signed anew on its next use" };
            format!("key {key}, {note}")
        });
        let session = self.session.as_ref();
        let user = |row: &SessionRow| row.user.as_deref().map_or("anonymous".into(), escape::line);
        let refused = if self.accepted { "no session" } else { "refused" };
        report::fields(
            console,
            [
                ("cookie", Some(escape::line(&self.name))),
                ("signed by", signer),
                ("session", session.map(|row| row.id.to_string())),
                ("user", session.map(user)),
                ("state", session.map(|row| row.state.to_owned())),
                (refused, self.reason.as_deref().map(escape::line)),
            ],
        )
    }
}
