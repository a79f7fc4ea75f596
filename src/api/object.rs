//! JSON on its way in: the fields of one object.
//!
//! Owns what counts as an object and which of its values are looked at. Must never know what a
//! field means. The invariant: nothing a peer sends is recursed into or copied without need, so
//! a frame full of brackets costs no more than one full of text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A field's value, as far as anything here tells values apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FieldValue<'a> {
    /// A string, borrowed from the input unless it has escapes.
    Text(Cow<'a, str>),
    Bool(bool),
    Null,
    /// Anything else.
    Other,
}

impl<'a> FieldValue<'a> {
    /// The string, if it is one.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            FieldValue::Text(text) => Some(text),
            FieldValue::Bool(_) | FieldValue::Null | FieldValue::Other => None,
        }
    }
}

/// A field that may be missing: `null` says no more than its absence, as most that write JSON
/// have it.
pub fn optional(value: Option<FieldValue<'_>>) -> Option<FieldValue<'_>> {
    value.filter(|value| *value != FieldValue::Null)
}

/// Not JSON, not an object, or a text in it is no Unicode (lone surrogates).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnObject;

/// What whoever sent something else is told, where nothing need be sent.
pub const NEITHER_EMPTY_NOR_AN_OBJECT: &str = "The body is neither empty nor a JSON object.";

/// The values of the fields `names` of the object that `text` is, in that order.
///
/// Other fields are skipped, without recursion. Of a repeated field the last counts, as browsers
/// and the original server have it. No `derive`: that would take arrays for objects.
pub fn fields<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<[Option<FieldValue<'a>>; N], NotAnObject> {
    let mut values = [const { None }; N];
    let mut json = serde_json::Deserializer::from_str(text);
    let fields = ObjectVisitor { names: &names, values: &mut values };
    fields.deserialize(&mut json).map_err(|_| NotAnObject)?;
    json.end().map_err(|_| NotAnObject)?;
    Ok(values)
}

/// [`fields`] of a request's content (RFC 8259 §8.1: UTF-8).
pub fn body_fields<'a, const N: usize>(
    body: &'a [u8],
    names: [&str; N],
) -> Result<[Option<FieldValue<'a>>; N], NotAnObject> {
    fields(std::str::from_utf8(body).map_err(|_| NotAnObject)?, names)
}

/// Two slices instead of arrays, so that serde's part of it is built once for all lengths.
struct ObjectVisitor<'f, 'de> {
    names: &'f [&'f str],
    /// Parallel to `names`.
    values: &'f mut [Option<FieldValue<'de>>],
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
        while let Some(place) = map.next_key_seed(FieldName(self.names))? {
            match place.and_then(|place| self.values.get_mut(place)) {
                Some(value) => *value = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Turns a field's name into its place among those asked for.
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
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|asked| *asked == name))
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

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(FieldValue::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(FieldValue::Other)
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
