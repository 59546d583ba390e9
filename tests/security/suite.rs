//! What the whole suite printed, searched for every token, key and stored value there was in it.
//!
//! `.ci/leaks` runs every test with a library that writes these down, and then this.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

/// How much of a secret is looked for: whoever prints this much prints a secret.
const LEN: usize = 16;
/// The same where each byte takes up to five.
const NUMBERS_LEN: usize = 48;

/// The beginnings of all secrets, in all forms that something may print them in.
#[derive(Default)]
struct Secrets {
    short: Beginnings<LEN>,
    numbers: Beginnings<NUMBERS_LEN>,
}

/// A set of which most texts are told not to be in it by one look.
struct Beginnings<const N: usize> {
    all: HashSet<[u8; N]>,
    /// By a hash of the first 8 bytes.
    hints: Vec<bool>,
}

impl<const N: usize> Default for Beginnings<N> {
    fn default() -> Self {
        Self { all: HashSet::new(), hints: vec![false; 1 << HINT_BITS] }
    }
}

const HINT_BITS: u32 = 24;

fn hint(text: &[u8]) -> usize {
    let eight = text.first_chunk().copied().map_or(0, u64::from_le_bytes);
    usize::try_from(eight.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HINT_BITS)).unwrap()
}

impl<const N: usize> Beginnings<N> {
    fn add(&mut self, form: &[u8]) {
        if let Some(beginning) = form.first_chunk() {
            self.hints[hint(form)] = true;
            self.all.insert(*beginning);
        }
    }

    fn places<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        (0..text.len().saturating_sub(N - 1)).filter(|&place| {
            let rest = &text[place..];
            self.hints[hint(rest)] && rest.first_chunk().is_some_and(|part| self.all.contains(part))
        })
    }
}

impl Secrets {
    fn add(&mut self, secret: &[u8]) {
        // In the shortest form, numbers, this is more than is looked for.
        let secret = &secret[..secret.len().min(NUMBERS_LEN / 2)];
        for form in [
            secret.to_vec(),
            secret.escape_ascii().to_string().into(),
            format!("{:?}", String::from_utf8_lossy(secret)).trim_matches('"').into(),
            hexadecimal(secret).into(),
            hexadecimal(secret).to_uppercase().into(),
            BASE64_URL_SAFE_NO_PAD.encode(secret).into(),
            BASE64_STANDARD.encode(secret).into(),
        ] {
            if form.first_chunk::<LEN>().is_some_and(|beginning| is_telling(beginning)) {
                self.short.add(&form);
            }
        }
        let numbers = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        if is_telling(secret) {
            self.numbers.add(numbers.as_bytes());
        }
    }

    /// Lines of `text` that show one.
    fn shown_in(&self, text: &[u8]) -> Vec<String> {
        let mut squeezed = text.to_vec();
        // Lists of numbers may be printed one on each line.
        squeezed
            .dedup_by(|next, before| next.is_ascii_whitespace() && before.is_ascii_whitespace());
        for byte in squeezed.iter_mut().filter(|byte| byte.is_ascii_whitespace()) {
            *byte = b' ';
        }
        let short = self.short.places(text).map(|place| line_at(text, place));
        let numbers = self.numbers.places(&squeezed).map(|place| line_at(&squeezed, place));
        let mut found: Vec<_> = short.chain(numbers).collect();
        found.dedup();
        found
    }
}

/// What is around a place, within its line.
fn line_at(text: &[u8], place: usize) -> String {
    let start = text[..place].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let end =
        text[place..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |n| place + n);
    let (start, end) = (start.max(place.saturating_sub(200)), end.min(place + 200));
    text[start..end].escape_ascii().to_string()
}

/// Whether there is more to it than a byte or two repeated, which anything may print.
fn is_telling(bytes: &[u8]) -> bool {
    bytes.iter().collect::<HashSet<_>>().len() > 6
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn from_hexadecimal(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}

/// The encoded value of a session without what MessagePack puts before a text.
fn text_of(payload: &[u8]) -> &[u8] {
    match payload {
        [0xd9, _, text @ ..] | [0xda, _, _, text @ ..] | [0xa0..=0xbf, text @ ..] => text,
        other => other,
    }
}

/// What the processes of a run wrote down, and what they printed.
struct Run {
    secrets: Secrets,
    counts: [usize; 2],
    texts: Vec<PathBuf>,
}

impl Run {
    fn of(folder: &Path) -> Self {
        let mut run = Self { secrets: Secrets::default(), counts: [0; 2], texts: Vec::new() };
        let mut known = HashSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with("secrets-") {
                run.texts.push(path);
                continue;
            }
            // The last line of a process that was killed may be cut short.
            for line in std::fs::read_to_string(path).unwrap().split_inclusive('\n') {
                let Some(line) =
                    line.strip_suffix('\n').filter(|line| known.insert(line.to_string()))
                else {
                    continue;
                };
                let (kind, hex) = line.split_once(' ').unwrap();
                let bytes = from_hexadecimal(hex);
                if kind == "payload" {
                    run.counts[1] += 1;
                    run.secrets.add(text_of(&bytes));
                    continue;
                }
                // An ID that was filled up to the length of a token, and is no secret.
                if bytes.ends_with(&[0, 0]) {
                    continue;
                }
                run.counts[0] += 1;
                run.secrets.add(&bytes);
                // A token without its two shard bytes.
                run.secrets.add(&bytes[2..]);
            }
        }
        run
    }
}

#[test]
fn a_secret_is_found_in_each_form_it_may_be_printed_in() {
    let mut secrets = Secrets::default();
    let token: [u8; 34] = std::array::from_fn(|n| u8::try_from(n * 7 % 251).unwrap());
    secrets.add(&token);
    secrets.add(b"the payload of somebody\nelse");
    for text in [
        format!("cookie 1.bbc8774f.{}.x", BASE64_URL_SAFE_NO_PAD.encode(token)),
        format!("token {}", BASE64_STANDARD.encode(token)),
        format!("token {token:02x?}").replace(", ", ""),
        hexadecimal(&token).to_uppercase(),
        format!("SessionToken({token:?})"),
        format!("SessionToken({token:#?})"),
        token.escape_ascii().to_string(),
        "k=the payload of somebody\nelse".to_owned(),
        format!("{:?}", "the payload of somebody\nelse"),
        format!("{:?}", b"the payload of somebody\nelse"),
    ] {
        assert_eq!(secrets.shown_in(text.as_bytes()).len(), 1, "{text}");
    }
    assert_eq!(secrets.shown_in(&token).len(), 1, "raw");
    assert_eq!(secrets.shown_in(b"an ID 0a0b0c0d0e0f, the payload of another"), [""; 0]);
}

/// `FASTSESSION_LEAKS` is the folder in which the run left what it wrote down.
#[test]
#[ignore = "needs a run of the whole suite: .ci/leaks"]
fn security_24_nothing_that_the_whole_suite_prints_shows_a_secret() {
    let folder = std::env::var_os("FASTSESSION_LEAKS").unwrap();
    let run = Run::of(Path::new(&folder));
    let (mut bytes, mut found) = (0, Vec::new());
    for path in &run.texts {
        let text = std::fs::read(path).unwrap();
        bytes += text.len();
        let name = path.file_name().unwrap().to_string_lossy();
        found.extend(run.secrets.shown_in(&text).into_iter().map(|line| format!("{name}: {line}")));
    }
    let [secrets, payloads] = run.counts;
    println!(
        "{secrets} tokens and keys and {payloads} payloads, looked for in {} files of {} MiB",
        run.texts.len(),
        bytes >> 20
    );
    found.truncate(100);
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(secrets > 10_000 && payloads > 1000 && bytes > 10 << 20, "little was written down");
}
