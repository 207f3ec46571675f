//! JSON values of any type. Deserializing one never fails on its type, so that one invalid value affects one user and not
//! the page. Borrows strings without escapes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value that should be a string or an integer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// An integer that fits into 64 bits, signed or unsigned.
    Integer(i128),
    /// Any other value, including null.
    Other,
    /// Absent.
    #[default]
    Missing,
}

/// A value that should be an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Object<T> {
    /// An object.
    Given(T),
    /// Any other value, including null.
    Other,
    /// Absent.
    #[default]
    Missing,
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(number.into()))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(array).map(|_| Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Scalar::Other)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object::Given)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Object::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(array).map(|_| Object::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_accepts_any_json() {
        let read = |json: &'static str| serde_json::from_str::<Scalar<'_>>(json).unwrap();
        assert!(matches!(read(r#""0378""#), Scalar::Text(Cow::Borrowed("0378"))));
        assert_eq!(read(r#""a\u0062""#), Scalar::Text("ab".into()));
        assert_eq!(read("-7"), Scalar::Integer(-7));
        assert_eq!(read("18446744073709551615"), Scalar::Integer(u64::MAX.into()));
        for other in ["1.5", "null", "true", "[1,[2]]", r#"{"a":{}}"#, "1e9"] {
            assert_eq!(read(other), Scalar::Other, "{other}");
        }
    }

    #[test]
    fn object_accepts_any_json() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct NamedField<'a> {
            #[serde(borrow, default)]
            name: Scalar<'a>,
        }
        let read = |json: &'static str| serde_json::from_str::<Object<NamedField<'_>>>(json).unwrap();
        assert_eq!(
            read(r#"{"name":1,"x":[]}"#),
            Object::Given(NamedField {
                name: Scalar::Integer(1)
            })
        );
        assert_eq!(
            read("{}"),
            Object::Given(NamedField {
                name: Scalar::Missing
            })
        );
        for other in [r#""4513 Main St""#, "1", "1.5", "null", "true", "[{}]"] {
            assert_eq!(read(other), Object::Other, "{other}");
        }
    }
}
