//! The headers of the response.

use std::sync::atomic::Ordering;

use axum_core::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, COOKIE, ORIGIN, REFERER, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::layer::ErrorHook;
use crate::error::{Error, Kind};
use crate::header::HeaderOptions;
use crate::session::{Closing, ClosingCookie, Shared};

/// What is kept of a request until its response leaves.
#[derive(Clone)]
pub(super) struct ClosingRequest {
    pub(super) on_error: Option<ErrorHook>,
    pub(super) is_activity: bool,
    /// The page that made the request says it came over plain HTTP.
    pub(super) plain_http: bool,
}

impl ClosingRequest {
    /// Makes of the response what leaves.
    #[inline]
    pub(super) fn dress(&self, shared: &Shared, response: &mut Response, closing: Closing) {
        if self.on_error.is_some() || !closing.is_nothing() {
            self.dress_up(shared, response, closing);
        }
    }

    fn dress_up(&self, shared: &Shared, response: &mut Response, closing: Closing) {
        let Closing { consulted, cookie, error } = closing;
        if let Some(error) = error {
            *response = error.into_response();
        }
        let value = cookie.map(|cookie| self.value_of(shared, cookie)).transpose();
        let value = value.unwrap_or_else(|error| {
            *response = error.into_response();
            None
        });
        if let Some(hook) = &self.on_error {
            hooked(hook, response);
        }
        let headers = response.headers_mut();
        let own = shared.settings.header.as_ref().map(HeaderOptions::header_name);
        if let Some(value) = value {
            match own {
                None => drop(headers.append(SET_COOKIE, value)),
                Some(name) => drop(headers.insert(name, value)),
            }
            headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        }
        if consulted {
            vary_by(headers, own.unwrap_or(&COOKIE));
        }
    }

    /// What stands in `Set-Cookie`, or in the header of the layer's own.
    fn value_of(&self, shared: &Shared, cookie: ClosingCookie) -> Result<HeaderValue, Error> {
        let settings = &shared.settings;
        let text = match (cookie, &settings.header) {
            (ClosingCookie::Set { value, .. }, Some(_)) => value,
            (ClosingCookie::Delete, Some(_)) => String::new(),
            (ClosingCookie::Set { value, max_age }, None) => {
                self.warn_of_plain_http(shared);
                settings.cookie.set_cookie(&value, max_age)
            }
            (ClosingCookie::Delete, None) => settings.cookie.delete_cookie(),
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| Error::new(Kind::Invalid, "the cookie's attributes fit no header"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn warn_of_plain_http(&self, shared: &Shared) {
        if self.plain_http && !shared.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a Secure session cookie was set for a page on http://, where browsers drop it; \
                 CookieOptions::insecure_http() is for development without TLS"
            );
        }
    }
}

/// Whether the warning about plain HTTP is still to be given.
pub(super) fn may_warn(shared: &Shared) -> bool {
    shared.settings.cookie.is_secure() && !shared.warned.load(Ordering::Relaxed)
}

/// Lets the application turn an error into a response of its own.
fn hooked(hook: &ErrorHook, response: &mut Response) {
    let Some(error) = response.extensions_mut().remove::<Error>() else { return };
    match hook(&error) {
        Some(own) => *response = own,
        // Another layer around this one may know what to do.
        None => drop(response.extensions_mut().insert(error)),
    }
}

/// Whether a browser says the page is on `http://`. On localhost that is as good as TLS.
pub(super) fn claims_plain_http(headers: &HeaderMap) -> bool {
    let page = headers.get(ORIGIN).or_else(|| headers.get(REFERER));
    let host = page.and_then(|page| page.as_bytes().strip_prefix(b"http://"));
    host.is_some_and(|host| {
        ![&b"localhost"[..], b"127.", b"[::1]"].iter().any(|local| host.starts_with(local))
    })
}

fn vary_by(headers: &mut HeaderMap, carrier: &HeaderName) {
    // Nearly always there is none, and looking first would be another look for the same name.
    let had_some = headers.append(VARY, HeaderValue::from(carrier.clone()));
    if had_some {
        let mut before: Vec<_> = headers.get_all(VARY).iter().cloned().collect();
        before.pop();
        if before.iter().any(|value| names(value, carrier)) {
            headers.remove(VARY);
            headers.extend(before.into_iter().map(|value| (VARY, value)));
        }
    }
}

/// Whether a `Vary` header says that the response depends on `carrier`.
fn names(value: &HeaderValue, carrier: &HeaderName) -> bool {
    value.as_bytes().split(|&byte| byte == b',').any(|name| {
        let name = name.trim_ascii();
        name == b"*" || name.eq_ignore_ascii_case(carrier.as_str().as_bytes())
    })
}
