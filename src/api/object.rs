//! JSON input: chosen fields of one object.
//!
//! Owns what counts as an object, and which of its values are read. Must not know what a field
//! means. The invariant: nested input is skipped without recursion, and only strings with escapes
//! are copied, so a frame full of brackets costs no more than one full of text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The value of a field, as far as the API distinguishes values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FieldValue<'a> {
    /// A string, borrowed from the input unless it has escapes.
    Text(Cow<'a, str>),
    Bool(bool),
    /// A whole number that is not negative. `60.0` is one, too (JSON Schema 2020-12 §4.2.3).
    Number(u64),
    Null,
    /// Another number, an array or an object.
    Other,
}

impl<'a> FieldValue<'a> {
    /// The string; `None` if the value is of another kind.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            FieldValue::Text(text) => Some(text),
            FieldValue::Bool(_) | FieldValue::Number(_) | FieldValue::Null | FieldValue::Other => {
                None
            }
        }
    }
}

/// The value of an optional field. `null` counts as absent, because many JSON libraries write absent
/// values as `null`.
pub fn optional(value: Option<FieldValue<'_>>) -> Option<FieldValue<'_>> {
    value.filter(|value| *value != FieldValue::Null)
}

/// The input is not JSON, is not an object, or has a string with a lone surrogate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnObject;

/// Parses `text` as an object and returns the values of the fields `names`, in that order.
///
/// Other fields are skipped without recursion. If a field is repeated, the last one counts, as in
/// `JSON.parse`. `derive(Deserialize)` is not used, because it would accept arrays as objects.
pub fn fields<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<[Option<FieldValue<'a>>; N], NotAnObject> {
    let mut values = [const { None }; N];
    ObjectVisitor { names: &names, values: &mut values }.read(text)?;
    Ok(values)
}

/// The values of `names` in a JSON object. `None` if it is no object, or a value is missing or not a
/// string.
pub fn texts<'a>(text: &'a str, names: [&str; 5]) -> Option<[Cow<'a, str>; 5]> {
    let fields = fields(text, names).ok()?;
    let [a, b, c, d, e] = fields.map(|field| field.and_then(FieldValue::text));
    Some([a?, b?, c?, d?, e?])
}

/// Like [`fields`], for a request's body, which must be UTF-8 (RFC 8259 §8.1). False: the body is
/// empty. A byte order mark before it is ignored (contract §1.27).
///
/// The values are not returned, so that this is compiled once and not for each number of fields.
pub fn body_fields<'a>(
    body: &'a [u8],
    names: &[&str],
    values: &mut [Option<FieldValue<'a>>],
) -> Result<bool, NotAnObject> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    if body.is_empty() {
        return Ok(false);
    }
    let text = std::str::from_utf8(body).map_err(|_| NotAnObject)?;
    ObjectVisitor { names, values }.read(text)?;
    Ok(true)
}

/// Reads an object. It has slices instead of arrays, so that its code is compiled once and not for
/// each length.
struct ObjectVisitor<'f, 'de> {
    names: &'f [&'f str],
    /// The value for each of `names`.
    values: &'f mut [Option<FieldValue<'de>>],
}

impl<'de> ObjectVisitor<'_, 'de> {
    fn read(self, text: &'de str) -> Result<(), NotAnObject> {
        let mut json = serde_json::Deserializer::from_str(text);
        self.deserialize(&mut json).map_err(|_| NotAnObject)?;
        json.end().map_err(|_| NotAnObject)
    }
}

impl<'de> DeserializeSeed<'de> for ObjectVisitor<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(index) = map.next_key_seed(FieldName(self.names))? {
            match index.and_then(|index| self.values.get_mut(index)) {
                Some(value) => *value = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads the name of a field. The result is its index in the requested names.
struct FieldName<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|requested| *requested == name))
    }
}

impl<'de> Deserialize<'de> for FieldValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldValueVisitor)
    }
}

struct FieldValueVisitor;

impl<'de> Visitor<'de> for FieldValueVisitor {
    type Value = FieldValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(FieldValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(FieldValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(FieldValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(FieldValue::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(FieldValue::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(FieldValue::Number(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        // The cast saturates, so only whole numbers come back unchanged.
        let whole = number as u64;
        Ok(if whole as f64 == number { FieldValue::Number(whole) } else { FieldValue::Other })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FieldValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(FieldValue::Other)
    }
}
