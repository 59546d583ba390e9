//! Values as MessagePack, one key at a time, and the refusal of what would not come back.
//!
//! Structs are written with field names, so that a field may be added or reordered between two
//! releases of an application. What comes back exactly: booleans, integers up to 64 bits, floats,
//! `char`, text, byte arrays, sequences, tuples, maps with any keys, structs, every kind of enum
//! (untagged and `flatten` included), `Option` of all of these. What cannot come back is refused
//! when it is written, not discovered when it is read:
//!
//! - `Some(None)`, `Some(())`: MessagePack has one `nil`, both would be read as `None`;
//! - 128-bit integers: written as bytes, they are lost under `flatten` and in untagged enums;
//! - what is nested deeper than 64 levels.
//!
//! The refusal is a serializer that writes nothing and only looks; it walks the value once before
//! it is encoded.

use std::fmt::{self, Display};

use serde::de::DeserializeOwned;
use serde::ser::{self, Serialize};

use crate::error::{Error, Kind, Result};

const MAX_DEPTH: usize = 64;
const MOST_VALUES: usize = 32;

/// Encodes the value of `key`.
pub(crate) fn encode<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>> {
    let refuse = |source: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("the value of {key:?} cannot be stored so that it comes back");
        Error::new(Kind::Encode, message).with_source(source)
    };
    value.serialize(Check { depth: 0, in_some: false }).map_err(|e| refuse(e.into()))?;
    // Most values are numbers and short texts: one allocation.
    let mut encoded = Vec::with_capacity(MOST_VALUES);
    rmp_serde::encode::write_named(&mut encoded, value).map_err(|e| refuse(e.into()))?;
    #[cfg(fastsession_leaks)]
    crate::leaks::payload(&encoded);
    Ok(encoded)
}

/// Decodes the value of `key`.
pub(crate) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
        let wanted = std::any::type_name::<T>();
        Error::new(Kind::Decode, format!("the value of {key:?} is not a {wanted}"))
            .with_source(source)
    };
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    // The encoder counts containers, the decoder counts every step into one.
    decoder.set_max_depth(MAX_DEPTH * 4);
    T::deserialize(&mut decoder).map_err(|e| failed(redact(&e).into()))
}

/// What was wrong, without the stored value that serde puts into its messages.
fn redact(error: &rmp_serde::decode::Error) -> &'static str {
    use rmp_serde::decode::Error as E;
    match error {
        E::Syntax(_) => "the stored value has another shape",
        E::TypeMismatch(_) => "the stored value is of another type",
        E::OutOfRange => "the stored number is out of range",
        E::LengthMismatch(_) => "the stored value has another number of elements",
        E::DepthLimitExceeded => "the stored value is nested too deeply",
        _ => "the stored value cannot be read",
    }
}

#[derive(Debug)]
struct Refusal(String);

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Checked = std::result::Result<(), Refusal>;

/// Looks at a value and keeps nothing.
#[derive(Clone, Copy)]
struct Check {
    depth: usize,
    in_some: bool,
}

impl Check {
    fn into_container(self) -> std::result::Result<Self, Refusal> {
        if self.depth == MAX_DEPTH {
            return Err(Refusal(format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1, in_some: false })
    }

    fn nil(self) -> Checked {
        if self.in_some {
            return Err(Refusal("`Some` of nothing would be read back as `None`".into()));
        }
        Ok(())
    }
}

macro_rules! fine {
    ($($name:ident: $type:ty),*) => {
        $(fn $name(self, _: $type) -> Checked { Ok(()) })*
    };
}

impl ser::Serializer for Check {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fine! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_f32: f32, serialize_f64: f64, serialize_char: char,
        serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str
    }

    /// As MessagePack's encoder does, so that types with two forms are seen in the one written.
    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_i128(self, _: i128) -> Checked {
        Err(Refusal("a 128-bit integer is not always read back; store it as text".into()))
    }

    fn serialize_u128(self, _: u128) -> Checked {
        self.serialize_i128(0)
    }

    fn serialize_none(self) -> Checked {
        self.nil()
    }

    fn serialize_unit(self) -> Checked {
        self.nil()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Checked {
        value.serialize(Self { in_some: true, ..self })
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Checked {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self.into_container()?)
    }

    fn serialize_seq(self, _: Option<usize>) -> std::result::Result<Self, Refusal> {
        self.into_container()
    }

    fn serialize_tuple(self, _: usize) -> std::result::Result<Self, Refusal> {
        self.into_container()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> std::result::Result<Self, Refusal> {
        self.into_container()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> std::result::Result<Self, Refusal> {
        self.into_container()
    }

    fn serialize_map(self, _: Option<usize>) -> std::result::Result<Self, Refusal> {
        self.into_container()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> std::result::Result<Self, Refusal> {
        self.into_container()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> std::result::Result<Self, Refusal> {
        self.into_container()
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident($($skipped:ty)?)),*) => {
        $(impl ser::$trait for Check {
            type Ok = ();
            type Error = Refusal;

            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $skipped,)? value: &T) -> Checked {
                value.serialize(*self)
            }

            fn end(self) -> Checked {
                Ok(())
            }
        })*
    };
}

elements! {
    SerializeSeq::serialize_element(), SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(), SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(&'static str),
    SerializeStructVariant::serialize_field(&'static str)
}

impl ser::SerializeMap for Check {
    type Ok = ();
    type Error = Refusal;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Checked {
        key.serialize(*self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
        value.serialize(*self)
    }

    fn end(self) -> Checked {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[track_caller]
    #[allow(clippy::needless_pass_by_value, reason = "shorter where it is called")]
    fn returns<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = encode("k", &value).unwrap();
        assert_eq!(decode::<T>("k", &bytes).unwrap(), value);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Tagged {
        Unit,
        New(i32),
        Tuple(u8, String),
        Struct { a: Option<u8> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(i64),
        Text(String),
        Big(u128),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        a: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, Untagged>,
    }

    #[test]
    fn rule_05_listed_types_come_back_exactly() {
        returns(true);
        returns(u64::MAX);
        returns(i64::MIN);
        returns(1.5_f32);
        returns(f64::MIN_POSITIVE);
        returns('ß');
        returns(String::from("text"));
        returns(vec![0_u8, 255]);
        returns((1, "two".to_owned(), [3; 3]));
        returns(BTreeMap::from([(1, Some("one".to_owned())), (2, None)]));
        returns(());
        returns(Unit);
        returns(Some(Unit));
        returns(Some(Some(7)));
        returns(None::<Option<u8>>);
        returns(vec![Some(1), None]);
        returns([Tagged::Unit, Tagged::New(-1), Tagged::Tuple(1, "x".into())]);
        returns(Tagged::Struct { a: None });
        returns(Untagged::Text("x".into()));
        returns(Flat { a: 1, rest: BTreeMap::from([("b".into(), Untagged::Number(-2))]) });
        returns(std::net::IpAddr::from([127, 0, 0, 1]));
        returns(std::time::Duration::from_nanos(1));
    }

    #[test]
    fn rule_05_what_would_not_come_back_is_refused() {
        assert!(encode("k", &Some(None::<u8>)).unwrap_err().is_encode());
        assert!(encode("k", &Some(())).unwrap_err().is_encode());
        assert!(encode("k", &vec![Some(Some(None::<u8>))]).unwrap_err().is_encode());
        assert!(encode("k", &u128::MAX).unwrap_err().is_encode());
        assert!(encode("k", &Untagged::Big(1)).unwrap_err().is_encode());
        let flat = Flat { a: 1, rest: BTreeMap::from([("b".into(), Untagged::Big(2))]) };
        assert!(encode("k", &flat).unwrap_err().is_encode());
    }

    #[test]
    fn rule_19_depth_is_bounded() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Nested(Vec<Nested>);
        let nested = |depth| (1..depth).fold(Nested(vec![]), |inner, _| Nested(vec![inner]));
        returns(nested(MAX_DEPTH));
        assert!(encode("k", &nested(MAX_DEPTH + 1)).unwrap_err().is_encode());
        let mut hostile = vec![0x91; 10_000];
        hostile.push(0xc0);
        assert!(decode::<Nested>("k", &hostile).unwrap_err().is_decode());
    }

    #[test]
    fn rule_05_another_shape_is_a_decode_error_without_the_value() {
        let bytes = encode("k", "sentinel-value").unwrap();
        let error = decode::<u64>("k", &bytes).unwrap_err();
        assert!(error.is_decode());
        assert!(!format!("{error:?}").contains("sentinel"));
    }
}
