//! The session's cookie: its attributes, and finding it in a request.
//!
//! What a `Cookie` header holds is bytes that anybody chose. They are split as RFC 6265bis has
//! it and otherwise left as they are: nothing is percent-decoded, unquoted or folded in case, so
//! that no two spellings of a name or a value mean the same.

mod options;
mod parse;
#[cfg(test)]
mod tests;

pub use options::{CookieOptions, CookieOptionsBuilder, SameSite};

pub(crate) use parse::{Candidates, MAX_CANDIDATES, Sole, candidates, sole};
