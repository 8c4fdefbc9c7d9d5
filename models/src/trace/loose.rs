//! JSON taken as it comes: numbers as text, text as numbers, nulls, things of the wrong type.
//!
//! You are here: `models::trace::loose`. `otlp_json`, `jaeger` and `zipkin` declare their fields with these.
//! Not here: what a field means.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::attributes::Value;

/// serde_json's message without its own position, which counts from the record and not from the file.
pub(crate) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The line (from 1) of `json` on which its part `raw` begins.
pub(crate) fn line_in(json: &[u8], raw: &RawValue) -> usize {
    let offset = (raw.get().as_ptr() as usize).saturating_sub(json.as_ptr() as usize);
    1 + json[..offset.min(json.len())].iter().filter(|&&byte| byte == b'\n').count()
}

/// Reads `null` as "nothing there".
pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A text, borrowed where it has no escapes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A scalar of any type; arrays and objects count as nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Loose<'a> {
    /// Absent, null, or no scalar.
    #[default]
    Nothing,
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// A whole number beyond `i64`.
    Big(u64),
    /// Any other number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl<'a> Loose<'a> {
    /// The text; empty for all else.
    pub(crate) fn text(&self) -> &str {
        match self {
            Loose::Text(text) => text,
            _ => "",
        }
    }

    /// A whole number not below zero, also one written as text; 0 for nothing.
    pub(crate) fn unsigned(&self) -> Option<u64> {
        match self {
            Loose::Nothing => Some(0),
            Loose::Text(text) if text.is_empty() => Some(0),
            Loose::Text(text) => text.parse().ok(),
            Loose::Int(number) => u64::try_from(*number).ok(),
            Loose::Big(number) => Some(*number),
            Loose::Float(number) if *number >= 0.0 && number.fract() == 0.0 && *number < 1.8e19 => Some(*number as u64),
            _ => None,
        }
    }

    /// The same as an attribute's value.
    pub(crate) fn into_value(self) -> Value<'a> {
        match self {
            Loose::Nothing => Value::Other,
            Loose::Text(text) => Value::Str(text),
            Loose::Int(number) => Value::Int(number),
            Loose::Big(number) => Value::Float(number as f64),
            Loose::Float(number) => Value::Float(number),
            Loose::Bool(yes) => Value::Bool(yes),
        }
    }
}

impl fmt::Display for Loose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loose::Nothing => f.write_str("(absent)"),
            Loose::Text(text) => write!(f, "{:?}", text.chars().take(64).collect::<String>()),
            Loose::Int(number) => number.fmt(f),
            Loose::Big(number) => number.fmt(f),
            Loose::Float(number) => number.fmt(f),
            Loose::Bool(yes) => yes.fmt(f),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LooseVisitor;
        impl<'de> Visitor<'de> for LooseVisitor {
            type Value = Loose<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Loose::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Loose::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Loose::Int(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(i64::try_from(number).map_or(Loose::Big(number), Loose::Int))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Loose::Float(number))
            }
            fn visit_bool<E>(self, yes: bool) -> Result<Self::Value, E> {
                Ok(Loose::Bool(yes))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Loose::Nothing)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose::Nothing)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose::Nothing)
            }
        }
        deserializer.deserialize_any(LooseVisitor)
    }
}

/// Up to 32 hexadecimal digits and nothing else.
pub(crate) fn hex_id(text: &str) -> Option<u128> {
    let all_hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    all_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// FNV-1a of 128 bits (Fowler, Noll, Vo).
pub(crate) fn fnv128(text: &str) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    text.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}
