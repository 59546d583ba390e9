//! The header that carries the token of clients without a cookie jar.

use http::HeaderName;

use crate::error::{Error, Kind, Result};

/// Names with a meaning of their own, to servers, proxies or browsers.
const RESERVED: &[&str] = &[
    "accept",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "location",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];
/// The same for names that begin so.
const RESERVED_PREFIXES: &[&str] =
    &["access-control-", "content-", "if-", "proxy-", "sec-", "x-forwarded-"];
const MAX_NAME_LEN: usize = 256;

/// Name of the header that carries the token instead of a cookie: for native applications and
/// other clients that keep no cookies. See [`SessionLayer::with_header`](crate::SessionLayer::with_header).
///
/// ```
/// use fastsession::HeaderOptions;
///
/// assert_eq!(HeaderOptions::default().name(), "session-token");
/// assert_eq!(HeaderOptions::named("X-Session")?.name(), "x-session");
/// assert!(HeaderOptions::named("Authorization").is_err());
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderOptions {
    name: HeaderName,
}

impl Default for HeaderOptions {
    /// `session-token`.
    fn default() -> Self {
        Self { name: HeaderName::from_static("session-token") }
    }
}

impl HeaderOptions {
    /// The header of this name, in whatever case.
    ///
    /// Fails (`is_invalid()`) if no header can be named so, or if the name has a meaning of its own
    /// (`Cookie`, `Authorization`, `Vary`, `Content-…` and so on).
    pub fn named(name: &str) -> Result<Self> {
        let problem = |text| Error::new(Kind::Invalid, format!("header options: {text}"));
        if name.len() > MAX_NAME_LEN {
            return Err(problem("the name is longer than 256 bytes"));
        }
        let name = HeaderName::try_from(name).map_err(|_| {
            problem("the name is empty or has a character other than letters, digits and !#$%&'*+-.^_`|~")
        })?;
        let text = name.as_str();
        if RESERVED.contains(&text) || RESERVED_PREFIXES.iter().any(|start| text.starts_with(start))
        {
            return Err(problem("the name has a meaning of its own"));
        }
        Ok(Self { name })
    }

    /// The header's name, in lower case.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(crate) fn header_name(&self) -> &HeaderName {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::HeaderOptions;

    #[test]
    fn security_04_names_that_mean_something_else_or_nothing_are_refused() {
        for name in [
            "",
            " ",
            "a b",
            "a:b",
            "ü",
            "a\r\nb",
            "Cookie",
            "SET-COOKIE",
            "authorization",
            "Vary",
            "Content-Length",
            "Sec-Fetch-Site",
            "Access-Control-Allow-Origin",
            "X-Forwarded-For",
            "proxy-authorization",
            "host",
            "Transfer-Encoding",
            &"a".repeat(257),
        ] {
            assert!(HeaderOptions::named(name).is_err_and(|e| e.is_invalid()), "{name:?}");
        }
        for name in ["x-session", "Session-Token", "Sid", &"a".repeat(256)] {
            assert_eq!(HeaderOptions::named(name).unwrap().name(), name.to_ascii_lowercase());
        }
    }
}
