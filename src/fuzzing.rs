//! What reads bytes from outside, as targets for a fuzzer.
//!
//! Each target panics where its reader breaks a promise, not only where it crashes: it compares
//! with a second, simpler reader, or writes again what was read. `fuzz/` runs them under
//! libFuzzer; the tests here replay the seeds in `fuzz/seeds`, and random mutations of them.
//! Compiled for these two only, so that the crate's interface does not grow.

mod cookies;
#[cfg(feature = "redb")]
mod stored;
#[cfg(test)]
mod tests;
#[cfg(feature = "cli")]
mod tool;

/// One reader and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of the fuzz target and of the folder with its seeds.
    pub name: &'static str,
    /// Reads one input; panics if a promise is broken.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "cookie_header", run: cookies::header },
    Target { name: "signed_value", run: cookies::signed_value },
    Target { name: "timed_value", run: cookies::timed_value },
    #[cfg(feature = "redb")]
    Target { name: "record", run: stored::record },
    #[cfg(feature = "redb")]
    Target { name: "key_ring", run: stored::key_ring },
    #[cfg(feature = "cli")]
    Target { name: "value", run: tool::value },
    #[cfg(feature = "cli")]
    Target { name: "arguments", run: tool::arguments },
    #[cfg(feature = "cli")]
    Target { name: "import", run: tool::import },
];

/// Runs the target called `name`.
///
/// # Panics
///
/// If there is none of that name, and where the target finds something.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target is called {name}")).run)(input);
}
