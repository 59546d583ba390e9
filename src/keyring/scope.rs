//! Where a sealed token is valid.

use std::sync::Arc;

use super::mac::BLOCK;
use super::seal::TOKEN_START;

const LABEL: &[u8] = b"fastsession session token\0";

/// Where a sealed token is valid: in one cookie, or in one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// What the MAC covers before the value itself. Shared by clones, which are known by that.
    pub(super) context: Arc<[u8]>,
}

impl Scope {
    /// The cookie named `name`.
    pub(crate) fn cookie(name: &str) -> Self {
        Self::new(1, name)
    }

    /// The header named `name`, in whatever case.
    #[cfg(any(feature = "axum", test))]
    pub(crate) fn header(name: &str) -> Self {
        Self::new(2, &name.to_ascii_lowercase())
    }

    fn new(transport: u8, name: &str) -> Self {
        let name_len = (name.len() as u64).to_be_bytes();
        let mut context = [LABEL, &[transport], &name_len, name.as_bytes()].concat();
        // What is added follows from the name's length: no two scopes come to the same bytes.
        let len = (context.len() + TOKEN_START).next_multiple_of(BLOCK);
        context.resize(len - TOKEN_START, 0);
        Self { context: context.into() }
    }
}
