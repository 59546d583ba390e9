//! Measures fastsession beside its peers and its limits; see `benches/README.md`.

use std::path::Path;
use std::process::ExitCode;

use report::Report;

mod apps;
mod bare;
mod browser;
mod cli;
mod correctness;
mod durable;
mod http;
mod instructions;
mod load;
mod overhead;
mod peers;
mod processes;
mod redis;
mod report;
mod scale;
mod space;
mod threads;
mod touches;

/// How long to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Results only: too short for figures to be trusted.
    pub(crate) quick: bool,
}

impl Effort {
    /// `full` where time does not matter, `quick` where it does.
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Table = (&'static str, fn(&mut Report, Effort));

const TABLES: &[Table] = &[
    ("overhead", overhead::run),
    ("durable", durable::run),
    ("redis", redis::run),
    ("correctness", correctness::run),
    ("processes", processes::run),
    ("touches", touches::run),
    ("threads", threads::run),
    ("http", http::run),
    ("space", space::run),
    ("scale", scale::run),
    ("cli", cli::run),
    ("instructions", instructions::run),
];

/// Does what a table wants of a process of its own. False if it is none of these roles.
fn play(role: &str, args: &[String]) -> bool {
    match (role, args) {
        (instructions::REQUESTS, [app, kind, count]) => instructions::requests(app, kind, count),
        (processes::WRITER, [path, clients, millis]) => processes::write(path, clients, millis),
        (processes::BARE_WRITER, [path, clients, millis]) => {
            processes::write_bare(path, clients, millis);
        }
        (cli::TOOL, args) => cli::tool(args),
        (cli::APP, [db]) => cli::app(db),
        (http::SERVER, [app]) => http::serve(app),
        (scale::RESIDENT, [path]) => scale::roam(path),
        (space::MEMORY, [sessions]) => space::fill_memory(sessions),
        _ => return false,
    }
    true
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, rest @ ..] = &args[..]
        && play(role, rest)
    {
        return ExitCode::SUCCESS;
    }
    let (flags, names): (Vec<String>, Vec<String>) =
        args.into_iter().partition(|arg| arg.starts_with("--"));
    let known = |name: &String| name == "all" || TABLES.iter().any(|(table, _)| table == name);
    if names.is_empty() || !names.iter().all(known) || flags.iter().any(|flag| flag != "--quick") {
        let tables: Vec<_> = TABLES.iter().map(|(name, _)| *name).collect();
        eprintln!("usage: fastsession-benches [--quick] all | {}", tables.join(" | "));
        return ExitCode::from(2);
    }
    let effort = Effort { quick: !flags.is_empty() };
    let mut report = Report::default();
    for (name, run) in TABLES {
        if names.iter().any(|wanted| wanted == name || wanted == "all") {
            run(&mut report, effort);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/summary.json");
    match report.write(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
