//! `inspect`: metadata and data of sessions, or what a cookie is worth.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Context, cookie};
use crate::cli::args::{Format, InspectArgs};
use crate::cli::console::{Console, Style};
use crate::cli::exit::{DONE, Outcome};
use crate::cli::report::{self, SessionRow, escape, value};
use crate::cli::select;
use crate::cli::time::{Instant, relative, rough};
use crate::expiry::Timestamp;
use crate::id::SessionId;
use crate::store::{Inspected, Summary};

/// A session with all that is known of it.
#[derive(Debug, Serialize)]
struct Inspection {
    #[serde(flatten)]
    session: SessionRow,
    absolute_at: Instant,
    idle_timeout_seconds: u64,
    remembered: bool,
    version: u64,
    data: Map<String, Value>,
}

pub(crate) async fn run(args: &InspectArgs, context: Context<'_, '_>) -> Outcome {
    report::require_object_format(context.format)?;
    if let Some(source) = &args.cookie {
        return cookie::run(source, args.cookie_name.as_deref(), context).await;
    }
    let mut code = DONE;
    let mut found = Vec::new();
    for id in &args.ids {
        match inspect(id, args.redact, &context).await {
            Ok(inspection) => found.push(inspection),
            Err(failure) => {
                context.console.fail(&failure);
                code = code.max(failure.code);
            }
        }
    }
    write(&found, args.ids.len() > 1, context)?;
    Ok(code)
}

async fn inspect(id: &str, redact: bool, context: &Context<'_, '_>) -> Outcome<Inspection> {
    let id = select::resolve(context.store, id).await?.id();
    let inspected = context.store.inspect(&id).await?;
    // It was there a moment ago.
    let inspected = inspected.ok_or_else(|| select::purged(&id))?;
    Ok(Inspection::new(id, &inspected, context.store.clock().now(), redact))
}

impl Inspection {
    fn new(id: SessionId, inspected: &Inspected, now: Timestamp, redact: bool) -> Self {
        let Inspected { record, endings } = inspected;
        let show = if redact { value::redacted } else { value::decode };
        Self {
            session: Summary::new(id, record, endings, now).into(),
            absolute_at: Instant(record.absolute_at()),
            idle_timeout_seconds: record.idle_timeout().as_secs(),
            remembered: record.is_remembered(),
            version: record.version(),
            data: record.data().iter().map(|(key, bytes)| (key.to_owned(), show(bytes))).collect(),
        }
    }

    fn block(&self, console: &Console<'_>, now: Timestamp) -> String {
        let Self { session, data, .. } = self;
        let time = |at: Instant| {
            if console.screen.stdout {
                format!("{at} ({})", relative(at.0, now))
            } else {
                at.to_string()
            }
        };
        let text = |text: &Option<Box<str>>| text.as_deref().map(escape::line);
        let ended = session.ended_at.map(|at| match session.ended_by {
            Some(by) => format!("{} by {by}", time(at)),
            None => time(at),
        });
        let idle = rough(std::time::Duration::from_secs(self.idle_timeout_seconds));
        let lines = [
            ("session", Some(session.id.to_string())),
            ("user", text(&session.user)),
            ("label", text(&session.label)),
            ("realm", text(&session.realm)),
            ("state", Some(session.state.to_owned())),
            ("created", Some(time(session.created_at))),
            ("signed in", session.authenticated_at.map(time)),
            ("last seen", Some(time(session.last_seen_at))),
            ("expires", Some(time(session.expires_at))),
            ("at the latest", Some(time(self.absolute_at))),
            ("idle timeout", Some(idle)),
            ("remembered", self.remembered.then(|| "yes".into())),
            ("ended", ended),
            ("version", Some(self.version.to_string())),
            ("size", Some(report::size(session.size_bytes as u64))),
            ("data", data.is_empty().then(|| "none".into())),
        ];
        let mut out = report::fields(console, lines);
        if !data.is_empty() {
            out += &console.paint(Style::Bold, "data");
            out.push('\n');
        }
        let width = data.keys().map(|key| escape::line(key).chars().count()).max().unwrap_or(0);
        for (key, value) in data {
            let key = format!("  {:<width$}  ", escape::line(key));
            out = out + &key + &escape::json(&value.to_string()) + "\n";
        }
        out
    }
}

fn write(found: &[Inspection], several: bool, context: Context<'_, '_>) -> Outcome<()> {
    let now = context.store.clock().now();
    let console = context.console;
    match (context.format, found) {
        (Format::Json, _) if several => {
            let text = report::to_pretty_json(&found)?;
            console.print(&format!("{text}\n"))
        }
        (Format::Table, _) => {
            let blocks: Vec<_> = found.iter().map(|one| one.block(console, now)).collect();
            console.print(&blocks.join("\n"))
        }
        (format, _) => {
            for one in found {
                report::object(console, format, one, |_| String::new())?;
            }
            Ok(())
        }
    }
}
