//! `init`: make a database with a fresh key.

use std::time::Duration;

use crate::cli::args::Format;
use crate::cli::console::Console;
use crate::cli::exit::{DONE, Outcome};
use crate::cli::open::{self, Location};
use crate::cli::report::{self, Made};
use crate::store::Freshness;

pub(crate) async fn run(
    location: &Location,
    wait: Duration,
    format: Format,
    console: &mut Console<'_>,
) -> Outcome {
    report::require_object_format(format)?;
    let store = open::create(location, wait)?;
    let ring = store.keys(Freshness::Current).await?;
    store.close().await?;
    let path = location.shown();
    let made = Made { path, key: ring.active().id().to_string() };
    report::object(console, format, &made, |console| {
        if console.quiet {
            return String::new();
        }
        let path = report::escape::line(&made.path);
        format!("made {path} with signing key {}\n", made.key)
    })?;
    Ok(DONE)
}
