//! The `fastsession` command; see `fastsession --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fastsession::cli::run(std::env::args_os())
}
