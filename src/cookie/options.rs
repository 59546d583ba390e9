//! How the session's cookie is named and bounded.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::keyring::SEALED_LEN;

/// The longest `Max-Age` that browsers honour: 400 days.
const MAX_MAX_AGE: Duration = Duration::from_secs(400 * 24 * 3600);
/// Longer pairs of name and value are dropped by browsers.
const MAX_PAIR_LEN: usize = 4096;
/// Longer attribute values are ignored by browsers.
const MAX_ATTRIBUTE_LEN: usize = 1024;

/// With which requests from other sites the browser sends the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// None, not even when a link is followed: the visitor arrives without a session.
    Strict,
    /// Only when a link is followed.
    #[default]
    Lax,
    /// All. Needs Secure, and a defence against cross-site request forgery.
    None,
}

impl SameSite {
    fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// Name and attributes of the session's cookie.
///
/// The default is the strictest that works for a site of its own: `__Host-sid`, `Secure`,
/// `HttpOnly`, `SameSite=Lax`, `Path=/`, no `Domain`, kept until the browser closes.
///
/// ```
/// use fastsession::{CookieOptions, SameSite};
///
/// assert_eq!(CookieOptions::default().name(), "__Host-sid");
/// let options =
///     CookieOptions::builder().name("__Host-admin").same_site(SameSite::Strict).build()?;
/// assert!(options.is_secure());
/// # Ok::<(), fastsession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each stands for one attribute")]
pub struct CookieOptions {
    name: String,
    path: String,
    domain: Option<String>,
    same_site: SameSite,
    secure: bool,
    http_only: bool,
    partitioned: bool,
    persistent: bool,
    /// What follows name, value and age in each `Set-Cookie`.
    attributes: String,
}

impl Default for CookieOptions {
    fn default() -> Self {
        let options = Self {
            name: "__Host-sid".into(),
            path: "/".into(),
            domain: None,
            same_site: SameSite::default(),
            secure: true,
            http_only: true,
            partitioned: false,
            persistent: false,
            attributes: String::new(),
        };
        options.complete()
    }
}

impl CookieOptions {
    /// The default without `Secure`, and so named `sid`: for development over plain HTTP.
    ///
    /// Whoever can read or change the traffic can take over every session.
    pub fn insecure_http() -> Self {
        Self { name: "sid".into(), secure: false, ..Self::default() }.complete()
    }

    /// Starts from the default.
    pub fn builder() -> CookieOptionsBuilder {
        Self::default().to_builder()
    }

    /// Starts from these options.
    ///
    /// ```
    /// use fastsession::CookieOptions;
    /// let options = CookieOptions::insecure_http().to_builder().path("/app").build()?;
    /// assert!(!options.is_secure());
    /// # Ok::<(), fastsession::Error>(())
    /// ```
    pub fn to_builder(&self) -> CookieOptionsBuilder {
        CookieOptionsBuilder(self.clone())
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if browsers send it over HTTPS only.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// True if every session's cookie outlives the browser, until the absolute deadline.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The `Set-Cookie` value that stores `value`: for `max_age`, rounded up to seconds and at
    /// most 400 days, or until the browser closes.
    pub(crate) fn set_cookie(&self, value: &str, max_age: Option<Duration>) -> String {
        let age = max_age.map(|max_age| {
            let max_age = max_age.min(MAX_MAX_AGE);
            // Rounded down, the last second would delete the cookie.
            let seconds = max_age.as_secs() + u64::from(max_age.subsec_nanos() > 0);
            format!("; Max-Age={seconds}")
        });
        // Of the right size at once, a header takes it over as it is.
        [&self.name, "=", value, age.as_deref().unwrap_or_default(), &self.attributes].concat()
    }

    /// The `Set-Cookie` value that deletes the cookie.
    pub(crate) fn delete_cookie(&self) -> String {
        let past = "=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        [&self.name, past, &self.attributes].concat()
    }

    /// With the text of its attributes, which are final.
    fn complete(mut self) -> Self {
        let mut out = String::new();
        out.push_str("; Path=");
        out.push_str(&self.path);
        if let Some(domain) = &self.domain {
            out.push_str("; Domain=");
            out.push_str(domain);
        }
        out.push_str("; SameSite=");
        out.push_str(self.same_site.as_str());
        for (set, flag) in [
            (self.secure, "; Secure"),
            (self.http_only, "; HttpOnly"),
            (self.partitioned, "; Partitioned"),
        ] {
            if set {
                out.push_str(flag);
            }
        }
        self.attributes = out;
        self
    }
}

/// Builds [`CookieOptions`]; see [`CookieOptions::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CookieOptionsBuilder(CookieOptions);

impl CookieOptionsBuilder {
    /// The cookie's name. A name beginning with `__Host-` or `__Secure-` makes the browser
    /// enforce what the prefix promises.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// The path below which the browser sends the cookie. It does not protect the session from
    /// other applications on the same host.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.path = path.into();
        self
    }

    /// The domain, without a leading dot, which with all its subdomains gets the cookie.
    /// Without one, only the host that set the cookie does.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.0.domain = Some(domain.into());
        self
    }

    /// With which requests from other sites it is sent.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.0.same_site = same_site;
        self
    }

    /// Whether it is sent over HTTPS only. Without it, the name must have no prefix.
    pub fn secure(mut self, secure: bool) -> Self {
        self.0.secure = secure;
        self
    }

    /// Whether it is kept from scripts.
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.0.http_only = http_only;
        self
    }

    /// Whether an embedded page has a cookie of its own under each site that embeds it.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.0.partitioned = partitioned;
        self
    }

    /// Whether every session's cookie outlives the browser, until the absolute deadline.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.0.persistent = persistent;
        self
    }

    /// The options.
    ///
    /// Fails (`is_invalid()`) if a browser would drop such a cookie or ignore one of its
    /// attributes: a name, path or domain with characters that they cannot have, or two options
    /// that contradict each other.
    pub fn build(self) -> Result<CookieOptions> {
        let options = self.0;
        let problems = [name_problem(&options), path_problem(&options), domain_problem(&options)];
        let problem = problems.into_iter().flatten().next().or_else(|| contradiction(&options));
        match problem {
            Some(problem) => Err(Error::new(Kind::Invalid, format!("cookie options: {problem}"))),
            None => Ok(options.complete()),
        }
    }
}

fn name_problem(options: &CookieOptions) -> Option<&'static str> {
    let name = options.name.as_bytes();
    if name.is_empty() {
        Some("the name is empty")
    } else if !name.iter().all(|&byte| is_token_byte(byte)) {
        Some("the name has a character other than letters, digits and !#$%&'*+-.^_`|~")
    } else if name.len() + SEALED_LEN > MAX_PAIR_LEN {
        Some("name and value together are longer than 4096 bytes")
    } else {
        None
    }
}

/// The characters of a token in HTTP (RFC 9110, 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn path_problem(options: &CookieOptions) -> Option<&'static str> {
    let path = options.path.as_bytes();
    if path.first() != Some(&b'/') {
        Some("the path does not begin with /")
    } else if !path.iter().all(|&byte| byte.is_ascii_graphic() && byte != b';') {
        Some("the path has a space, a semicolon, a control or a non-ASCII character")
    } else if path.len() > MAX_ATTRIBUTE_LEN {
        Some("the path is longer than 1024 bytes")
    } else {
        None
    }
}

fn domain_problem(options: &CookieOptions) -> Option<&'static str> {
    let domain = options.domain.as_deref()?;
    let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if domain.starts_with('.') {
        Some("the domain begins with a dot; subdomains are included without it")
    } else if domain.split('.').any(|label| label.is_empty() || !label.bytes().all(is_label_byte)) {
        Some("the domain is not letters, digits and hyphens, separated by single dots")
    } else if domain.len() > MAX_ATTRIBUTE_LEN {
        Some("the domain is longer than 1024 bytes")
    } else {
        None
    }
}

/// Prefixes are compared without regard to case, as browsers do: a name that looks like a
/// promise has to keep it.
fn contradiction(options: &CookieOptions) -> Option<&'static str> {
    let name = options.name.to_ascii_lowercase();
    let host = name.starts_with("__host-");
    let http = name.starts_with("__http-") || name.starts_with("__host-http-");
    if host && options.domain.is_some() {
        Some("a __Host- name has no Domain; call it __Secure-… to share it with subdomains")
    } else if host && options.path != "/" {
        Some("a __Host- name has Path=/; call it __Secure-… to have another path")
    } else if (host || http || name.starts_with("__secure-")) && !options.secure {
        Some("a name with a prefix is Secure; over plain HTTP use CookieOptions::insecure_http()")
    } else if http && !options.http_only {
        Some("an __Http- name is HttpOnly")
    } else if options.same_site == SameSite::None && !options.secure {
        Some("SameSite=None is Secure")
    } else if options.partitioned && !options.secure {
        Some("Partitioned is Secure")
    } else {
        None
    }
}
