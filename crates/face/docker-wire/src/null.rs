//! What `null`, absent and empty mean, in both directions.
//!
//! Go writes a nil slice or map as `null` and reads `null` as "leave it as it is"; these functions
//! give the types of this crate the same manners. They are public for types that are declared
//! elsewhere but travel on the same wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An object without fields: the value of Go's `map[string]struct{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A set of names, on the wire an object whose values are all `{}`.
pub type Set = BTreeMap<String, Option<Empty>>;

/// Builds a [`Set`], each value of which is written as `{}`.
pub fn set<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Set {
    names.into_iter().map(|name| (name.into(), Some(Empty {}))).collect()
}

/// Words of a command line, which old clients may send as one bare string.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl From<Vec<String>> for Words {
    fn from(words: Vec<String>) -> Self {
        Self(words)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Many(Vec<String>),
            One(String),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Many(words) => Self(words),
            Form::One(word) => Self(vec![word]),
        })
    }
}

/// Reads a value, `null` being its default.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Writes a list or map, an empty one as `null`.
pub fn when_empty<S, C>(collection: &C, serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    C: Serialize,
    for<'a> &'a C: IntoIterator,
{
    if collection.into_iter().next().is_none() {
        serializer.serialize_none()
    } else {
        collection.serialize(serializer)
    }
}

/// Whether a value is its type's default: what Go's `omitempty` leaves out.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
