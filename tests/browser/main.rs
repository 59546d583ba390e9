//! The login example in a real browser: headless Chromium, driven over `WebDriver`.
//!
//! Skipped where `chromium` and `chromedriver` are not installed; what goes over TLS also needs
//! `openssl` and `socat`. The pictures of the README are taken by
//! `FASTSESSION_SCREENSHOTS=docs/images cargo test --test browser pictures`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what did not run is said")]

#[path = "../common/mod.rs"]
mod common;
mod driver;
mod login;
mod origins;
mod pictures;
mod tls;

use std::process::{Command, Stdio};

/// Whether `programs` are all installed. Says so if the test is skipped; an error where nothing
/// may be.
fn installed(programs: &[&str]) -> bool {
    let missing = |program: &&&str| {
        let mut command = Command::new(program);
        let version = if **program == "openssl" { "version" } else { "--version" };
        let flag = if **program == "socat" { "-V" } else { version };
        command.arg(flag).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    };
    let Some(program) = programs.iter().find(missing) else { return true };
    assert!(std::env::var_os("FASTSESSION_REQUIRE_ALL").is_none(), "{program} is not installed");
    eprintln!("SKIPPED: {program} is not installed");
    false
}

const CHROMIUM: [&str; 2] = ["chromium", "chromedriver"];
