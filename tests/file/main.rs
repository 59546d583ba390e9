//! What is done to a session file as a whole, beside an application that serves from it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod check;
mod fixture;
mod kills;
mod log;
mod pages;
mod rebuild;
mod rot;
