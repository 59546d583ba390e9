//! Signed values that expire.
//!
//! For what leaves the server and comes back within a time: the link in a mail, a form's hidden
//! field. The text is `1.<body>.<mac>` in base64url, where the body is the instant of signing (8
//! bytes, big-endian, milliseconds) and the value in MessagePack with field names. It is signed,
//! not encrypted: whoever has the text can read the value.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::expiry::Timestamp;
use crate::keyring::{Key, MAC_BYTES, decode_mac};

/// Differs from the session cookie's, so that neither is ever taken for the other, even if an
/// application uses one key for both.
pub(crate) const LABEL: &[u8] = b"fastsession timed signer\0";
const VERSION: &str = "1.";
const TIME_BYTES: usize = 8;
/// How far ahead the clock of the signing machine may be.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// Signs values, and verifies them with a maximum age.
///
/// Use a key of its own, and one key for each purpose: any text a signer made is valid for every
/// signer with the same key.
///
/// ```
/// use fastsession::{Key, TimedSigner};
/// use std::time::{Duration, SystemTime};
///
/// let signer = TimedSigner::new(Key::generate()?);
/// let text = signer.sign(&("reset-password", "alice"), SystemTime::now())?;
///
/// let (purpose, user): (String, String) =
///     signer.verify(&text, Duration::from_secs(3600), SystemTime::now())?;
/// assert_eq!((purpose.as_str(), user.as_str()), ("reset-password", "alice"));
///
/// let refused = signer.verify::<String>("nonsense", Duration::MAX, SystemTime::now());
/// assert!(refused.is_err_and(|error| error.is_malformed()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TimedSigner {
    key: Key,
}

impl TimedSigner {
    /// Length of the longest text, in bytes.
    pub const MAX_LEN: usize = 8 * 1024;

    /// A signer with this key.
    pub fn new(key: Key) -> Self {
        Self { key }
    }

    /// The text that carries `value`, signed at `at`: safe in URLs, cookies and headers.
    ///
    /// Fails if the value has no form in MessagePack (`is_encode()`), or if the text would be
    /// longer than [`TimedSigner::MAX_LEN`] (`is_too_large()`).
    pub fn sign<T>(&self, value: &T, at: impl Into<Timestamp>) -> Result<String>
    where
        T: Serialize + ?Sized,
    {
        let mut body = at.into().as_millis().to_be_bytes().to_vec();
        rmp_serde::encode::write_named(&mut body, value).map_err(|source| {
            Error::new(Kind::Encode, "the value to sign cannot be encoded").with_source(source)
        })?;
        let signed = format!("{VERSION}{}", BASE64_URL_SAFE_NO_PAD.encode(&body));
        let mac = self.key.mac([LABEL, signed.as_bytes()]);
        let text = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac));
        if text.len() > Self::MAX_LEN {
            return Err(Error::new(
                Kind::TooLarge,
                format!("the signed value has {} bytes, more than {}", text.len(), Self::MAX_LEN),
            ));
        }
        Ok(text)
    }

    /// The value in `text`, if this key signed it less than `max_age` before `at`.
    ///
    /// A text from the future is refused, except for 60 seconds by which clocks may differ.
    pub fn verify<T>(
        &self,
        text: &str,
        max_age: Duration,
        at: impl Into<Timestamp>,
    ) -> Result<T, SignerError>
    where
        T: DeserializeOwned,
    {
        let Parts { signed, body, mac } = parse(text).ok_or(SignerError(Refused::Malformed))?;
        if !self.key.verifies([LABEL, signed.as_bytes()], &mac) {
            return Err(SignerError(Refused::BadSignature));
        }
        let (time, value) =
            body.split_first_chunk::<TIME_BYTES>().ok_or(SignerError(Refused::Malformed))?;
        check_age(Timestamp::from_millis(i64::from_be_bytes(*time)), max_age, at.into())?;
        // The decoder's own message quotes the value, which may be a secret, so it is not kept.
        rmp_serde::from_slice(value)
            .map_err(|_| SignerError(Refused::Decode { expected: std::any::type_name::<T>() }))
    }
}

fn check_age(signed_at: Timestamp, max_age: Duration, at: Timestamp) -> Result<(), SignerError> {
    if signed_at.saturating_since(at) > MAX_SKEW {
        Err(SignerError(Refused::NotYetValid))
    } else if at.saturating_since(signed_at) >= max_age {
        Err(SignerError(Refused::Expired))
    } else {
        Ok(())
    }
}

struct Parts<'a> {
    signed: &'a str,
    body: Vec<u8>,
    mac: [u8; MAC_BYTES],
}

fn parse(text: &str) -> Option<Parts<'_>> {
    if text.len() > TimedSigner::MAX_LEN {
        return None;
    }
    let (signed, mac) = text.rsplit_once('.')?;
    let mac = decode_mac(mac.as_bytes())?;
    let body = BASE64_URL_SAFE_NO_PAD.decode(signed.strip_prefix(VERSION)?).ok()?;
    Some(Parts { signed, body, mac })
}

/// Why [`TimedSigner::verify`] refused a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerError(Refused);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Refused {
    Malformed,
    BadSignature,
    NotYetValid,
    Expired,
    Decode { expected: &'static str },
}

impl SignerError {
    /// It is not a text that a signer makes, or it was cut off.
    pub fn is_malformed(&self) -> bool {
        matches!(self.0, Refused::Malformed)
    }

    /// It was not signed with this key, or was changed since.
    pub fn is_bad_signature(&self) -> bool {
        matches!(self.0, Refused::BadSignature)
    }

    /// The signature is right, and as old as the maximum age or older.
    pub fn is_expired(&self) -> bool {
        matches!(self.0, Refused::Expired)
    }

    /// The signature is right, and more than 60 seconds in the future: a clock is wrong.
    pub fn is_not_yet_valid(&self) -> bool {
        matches!(self.0, Refused::NotYetValid)
    }

    /// Signature and age are right; the value has another shape than the type asked for.
    pub fn is_decode(&self) -> bool {
        matches!(self.0, Refused::Decode { .. })
    }
}

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refused::Malformed => f.write_str("not a signed value"),
            Refused::BadSignature => f.write_str("the signature does not match"),
            Refused::NotYetValid => f.write_str("signed in the future"),
            Refused::Expired => f.write_str("the signed value has expired"),
            Refused::Decode { expected } => write!(f, "the signed value is no {expected}"),
        }
    }
}

impl std::error::Error for SignerError {}
