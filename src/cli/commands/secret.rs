//! Reading a signing key from a file.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::cli::exit::{FAILED, Failure, Outcome};
use crate::keyring::Key;

/// A key in hexadecimal, and a line break.
const MAX_BYTES: u64 = 2 * Key::MAX_LEN as u64 + 2;

/// The key in the file at `path`: in hexadecimal, in base64 (either alphabet, with padding or
/// without), or as it is, whichever is met first.
pub(super) fn read(path: &Path) -> Outcome<Key> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Failure::new(FAILED, format!("{shown} cannot be read")).because(error.to_string())
    };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(Failure::new(FAILED, format!("{shown} is not a regular file")));
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            FAILED,
            format!("{shown} can be read by others (mode {mode:03o})"),
        )
        .because("whoever has read the key may have kept it")
        .next(format!("`chmod 600 {shown}`, if nobody has")));
    }
    // Large enough from the start: growing would leave the secret behind in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * Key::MAX_LEN + 64));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    let secret = decode(&bytes);
    Key::from_bytes(secret.as_slice()).map_err(|error| {
        Failure::new(FAILED, format!("{shown} holds no usable key")).because(error.to_string())
    })
}

fn decode(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let text = bytes.trim_ascii();
    let decoded = from_hex(text).or_else(|| from_base64(text));
    decoded.unwrap_or_else(|| Zeroizing::new(bytes.to_vec()))
}

fn is_key_len(len: usize) -> bool {
    (Key::MIN_LEN..=Key::MAX_LEN).contains(&len)
}

fn from_hex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !text.len().is_multiple_of(2) || !is_key_len(text.len() / 2) {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.chunks_exact(2) {
        out.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(out)
}

fn from_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let lax = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let mut alphabets = [&alphabet::STANDARD, &alphabet::URL_SAFE].into_iter();
    alphabets.find_map(|alphabet| {
        let decoded = GeneralPurpose::new(alphabet, lax).decode(text).ok().map(Zeroizing::new)?;
        is_key_len(decoded.len()).then_some(decoded)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const SECRET: [u8; 32] = *b"\x91\x02\xe3\x74\xb5\x26\xc7\x18\x59\xfa\x3b\x8c\x0d\xee\x6f\xd0\
        \x11\x82\x43\xc4\x95\x36\xa7\x68\xd9\x2a\xfb\x7c\x4d\xbe\x1f\xe0";

    fn key_of(content: &[u8], mode: u32) -> Outcome<Key> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&path)
    }

    #[test]
    fn a_key_is_raw_hexadecimal_or_base64() {
        let hex = SECRET.map(|byte| format!("{byte:02x}")).concat();
        let base64 = base64::engine::general_purpose::STANDARD.encode(SECRET);
        let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(SECRET);
        let raw = key_of(&SECRET, 0o600).unwrap();
        for text in [hex.clone(), hex.to_uppercase() + "\n", base64 + "\n", url] {
            assert_eq!(key_of(text.as_bytes(), 0o400).unwrap().id(), raw.id(), "{text}");
        }
    }

    #[test]
    fn a_key_others_can_read_or_guess_is_refused() {
        let failure = key_of(&SECRET, 0o640).unwrap_err();
        assert!(failure.what.ends_with("can be read by others (mode 640)"), "{}", failure.what);
        for weak in [&b""[..], b"secret", &[7; 32], &[1; 500]] {
            let failure = key_of(weak, 0o600).unwrap_err();
            assert!(failure.what.ends_with("holds no usable key"), "{}", failure.what);
        }
    }
}
