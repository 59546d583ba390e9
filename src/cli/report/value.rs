//! A session's data as JSON, whatever types the application stored.
//!
//! MessagePack knows more than JSON. What JSON has no word for becomes an object whose one key
//! begins with `$`:
//!
//! | stored | shown |
//! | --- | --- |
//! | bytes | `{"$bytes": "00ff"}`, in hexadecimal |
//! | a number that is not finite | `{"$float": "NaN"}` |
//! | a map whose keys are not all text, not all different, or begin with `$` | `{"$map": [[key, value], …]}` |
//! | an extension type | `{"$ext": {"type": 1, "bytes": "00ff"}}` |
//! | what cannot be decoded | `{"$undecodable": "c1"}` |

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

/// As deep as values may be stored; the decoder counts several steps into each level.
const MAX_STEPS: usize = 64 * 4;

/// The JSON of one encoded value.
pub(crate) fn decode(bytes: &[u8]) -> Value {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(MAX_STEPS);
    match Decoded::deserialize(&mut decoder) {
        Ok(Decoded(value)) => value,
        Err(_) => json!({ "$undecodable": hex(bytes) }),
    }
}

/// Type and size of one encoded value, without the value.
pub(crate) fn redacted(bytes: &[u8]) -> Value {
    json!({ "$redacted": kind(&decode(bytes)), "size_bytes": bytes.len() })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(map) => match map.keys().next().map(String::as_str) {
            Some("$bytes") => "bytes",
            Some("$float") => "float",
            Some("$ext") => "extension",
            Some("$undecodable") => "undecodable",
            _ => "map",
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // A string takes all that is written to it.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

struct Decoded(Value);

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape).map(Self)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MessagePack value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<Value, E> {
        // Through its shortest text: 0.1 stays 0.1.
        self.visit_f64(value.to_string().parse().unwrap_or_else(|_| value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(serde_json::Number::from_f64(value)
            .map_or_else(|| json!({ "$float": value.to_string() }), Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(json!({ "$bytes": hex(value) }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Decoded(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((Decoded(key), Decoded(value))) = entries.next_entry()? {
            pairs.push((key, value));
        }
        Ok(map(pairs))
    }

    /// An extension type: a pair of its number and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_tuple(2, Extension)
    }
}

struct Extension;

impl<'de> Visitor<'de> for Extension {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an extension type")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let missing = || A::Error::custom("an extension type has a number and bytes");
        let number: i8 = parts.next_element()?.ok_or_else(missing)?;
        let Decoded(mut bytes) = parts.next_element()?.ok_or_else(missing)?;
        Ok(json!({ "$ext": { "type": number, "bytes": bytes["$bytes"].take() } }))
    }
}

fn map(pairs: Vec<(Value, Value)>) -> Value {
    let mut seen = HashSet::new();
    let plain = pairs
        .iter()
        .all(|(key, _)| key.as_str().is_some_and(|key| !key.starts_with('$') && seen.insert(key)));
    if !plain {
        return json!({ "$map": pairs });
    }
    let entry = |(key, value): (Value, Value)| match key {
        Value::String(key) => Some((key, value)),
        _ => None,
    };
    Value::Object(pairs.into_iter().filter_map(entry).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn shown(value: impl serde::Serialize) -> Value {
        decode(&rmp_serde::to_vec_named(&value).unwrap())
    }

    #[test]
    fn plain_values_are_plain_json() {
        assert_eq!(shown(()), Value::Null);
        assert_eq!(shown(true), json!(true));
        assert_eq!(shown(u64::MAX), json!(u64::MAX));
        assert_eq!(shown(i64::MIN), json!(i64::MIN));
        assert_eq!(shown(0.1_f32), json!(0.1));
        assert_eq!(shown("ß"), json!("ß"));
        assert_eq!(shown((1, "two", [3])), json!([1, "two", [3]]));
        assert_eq!(shown(BTreeMap::from([("a", Some(1)), ("b", None)])), json!({"a":1,"b":null}));
    }

    #[test]
    fn what_json_has_no_word_for_is_marked() {
        assert_eq!(decode(&[0xc4, 2, 0, 255]), json!({"$bytes": "00ff"}));
        assert_eq!(shown(f64::NAN), json!({"$float": "NaN"}));
        assert_eq!(shown(f32::NEG_INFINITY), json!({"$float": "-inf"}));
        assert_eq!(shown(BTreeMap::from([(1, "one")])), json!({"$map": [[1, "one"]]}));
        assert_eq!(shown(BTreeMap::from([("$bytes", 1)])), json!({"$map": [["$bytes", 1]]}));
        assert_eq!(decode(b"\x82\xa1k\x01\xa1k\x02"), json!({"$map": [["k", 1], ["k", 2]]}));
        assert_eq!(decode(&[0xd4, 5, 9]), json!({"$ext": {"type": 5, "bytes": "09"}}));
        assert_eq!(decode(&[0xa1, 0xff]), json!({"$bytes": "ff"}));
        assert_eq!(decode(&[0xc1]), json!({"$undecodable": "c1"}));
        assert_eq!(decode(&[]), json!({"$undecodable": ""}));
    }

    #[test]
    fn hostile_values_are_bounded() {
        let deep = [vec![0x91; 100_000], vec![0xc0]].concat();
        assert_eq!(kind(&decode(&deep)), "undecodable");
        // It claims four billion elements.
        assert_eq!(kind(&decode(&[0xdd, 0xff, 0xff, 0xff, 0xff])), "undecodable");
    }

    #[test]
    fn redaction_keeps_type_and_size() {
        let bytes = rmp_serde::to_vec("sentinel").unwrap();
        assert_eq!(redacted(&bytes), json!({"$redacted": "text", "size_bytes": 9}));
        assert_eq!(redacted(&[0xc4, 1, 0])["$redacted"], "bytes");
        assert_eq!(redacted(&[0xcb; 9])["$redacted"], "float");
    }
}
