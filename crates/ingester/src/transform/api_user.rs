//! Reads chosen values of a user of the API by their paths. Deserializes nothing else, so passwords, hashes and national
//! ids never exist as values. Knows no field of a record.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::transform::scalar::Scalar;

/// The paths of the values to read, such as `name.first`.
#[derive(Debug, Default)]
pub struct Paths {
    root: JsonNode,
    values: usize,
}

/// A user or one of its objects or values.
#[derive(Debug, Default)]
struct JsonNode {
    name: &'static str,
    /// The index of its value, unless it is an object.
    index: usize,
    /// The values and objects in it; empty for a value.
    children: Vec<JsonNode>,
}

impl JsonNode {
    /// Marks its value, or each value in it.
    fn set_duplicate(&self, values: &mut [ApiValue<'_>]) {
        if self.children.is_empty() {
            values[self.index] = ApiValue::Duplicate;
        }
        self.children.iter().for_each(|child| child.set_duplicate(values));
    }
}

impl Paths {
    /// Adds a path and returns the index of its value in [`ApiUser`].
    pub fn add(&mut self, path: &'static str) -> usize {
        let mut node = &mut self.root;
        let mut is_new = false;
        for name in path.split('.') {
            let position = node.children.iter().position(|child| child.name == name);
            is_new = position.is_none();
            let position = position.unwrap_or_else(|| {
                let child = JsonNode {
                    name,
                    ..JsonNode::default()
                };
                assert!(node.children.len() < 64, "a set of children is 64 bits");
                node.children.push(child);
                node.children.len() - 1
            });
            node = &mut node.children[position];
        }
        if is_new {
            node.index = self.values;
            self.values += 1;
        }
        node.index
    }
}

/// The values of a user, by the index of their path.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiUser<'a>(pub Vec<ApiValue<'a>>);

/// The value at a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiValue<'a> {
    /// The user lacks the first object or value of the path.
    #[default]
    Absent,
    /// The value; [`Scalar::Missing`] if a given object lacks it.
    Given(Scalar<'a>),
    /// The object with the value is a text, as in older versions of the API.
    TextForObject,
    /// The user has the key of the value, or of an object with it, more than once.
    Duplicate,
}

impl<'de> DeserializeSeed<'de> for &Paths {
    type Value = ApiUser<'de>;

    /// Never fails on the type of a value, so that one invalid value affects one user and not the page.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ApiUser<'de>, D::Error> {
        let mut values = vec![ApiValue::Absent; self.values];
        let values_of_user = ObjectSeed {
            node: &self.root,
            values: &mut values,
        };
        values_of_user.deserialize(deserializer)?;
        Ok(ApiUser(values))
    }
}

struct ObjectSeed<'p, 'v, 'de> {
    node: &'p JsonNode,
    values: &'v mut Vec<ApiValue<'de>>,
}

impl<'de> ObjectSeed<'_, '_, 'de> {
    /// Sets every value of the object. `direct` is for those that are not in a further object.
    fn set_all(self, direct: &ApiValue<'de>, nested: &ApiValue<'de>) {
        for child in &self.node.children {
            if child.children.is_empty() {
                self.values[child.index] = direct.clone();
            } else {
                let values = &mut *self.values;
                ObjectSeed { node: child, values }.set_all(nested, nested);
            }
        }
    }

    fn set_other(self) {
        let other = ApiValue::Given(Scalar::Other);
        self.set_all(&other, &other);
    }
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { node, values } = self;
        if !node.name.is_empty() {
            let missing = ApiValue::Given(Scalar::Missing);
            ObjectSeed { node, values }.set_all(&missing, &missing);
        }
        // One bit for each child.
        let mut seen = 0_u64;
        while let Some(position) = map.next_key_seed(ChildSeed(node))? {
            let Some(position) = position else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let (child, bit) = (&node.children[position], 1 << position);
            if seen & bit != 0 {
                map.next_value::<IgnoredAny>()?;
                child.set_duplicate(values);
                continue;
            }
            seen |= bit;
            if child.children.is_empty() {
                values[child.index] = ApiValue::Given(map.next_value()?);
            } else {
                map.next_value_seed(ObjectSeed { node: child, values })?;
            }
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.set_all(&ApiValue::TextForObject, &ApiValue::Given(Scalar::Other));
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.set_other();
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.set_other();
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.set_other();
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.set_other();
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.set_other();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<(), A::Error> {
        self.set_other();
        IgnoredAny.visit_seq(array).map(drop)
    }
}

/// Finds the position of the child with a key of the object.
struct ChildSeed<'p>(&'p JsonNode);

impl<'de> DeserializeSeed<'de> for ChildSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ChildSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.iter().position(|child| child.name == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &'static str) -> [ApiValue<'static>; 4] {
        let mut paths = Paths::default();
        let indices = ["top", "a.text", "a.b.number", "a.text"].map(|path| paths.add(path));
        assert_eq!(indices, [0, 1, 2, 1], "a path has one index");
        let user = paths.deserialize(&mut serde_json::Deserializer::from_str(json));
        let ApiUser(values) = user.unwrap();
        indices.map(|index| values[index].clone())
    }

    #[test]
    fn values_are_read_by_their_paths() {
        let text = ApiValue::Given(Scalar::Text("x".into()));
        assert_eq!(
            read(r#"{"a":{"text":"x","b":{"number":7,"c":[]},"top":1},"top":{}}"#),
            [
                ApiValue::Given(Scalar::Other),
                text.clone(),
                ApiValue::Given(Scalar::Integer(7)),
                text
            ]
        );
    }

    #[test]
    fn absent_object_differs_from_a_missing_value() {
        assert_eq!(read("{}"), [const { ApiValue::Absent }; 4]);
        let missing = ApiValue::Given(Scalar::Missing);
        let [top, rest @ ..] = read(r#"{"a":{}}"#);
        assert_eq!(top, ApiValue::Absent);
        assert_eq!(rest, [missing.clone(), missing.clone(), missing]);
    }

    #[test]
    fn duplicate_key_marks_each_value_in_it() {
        let [top, text, number, _] = read(r#"{"top":"x","a":{"text":"x","text":"x"},"top":"y"}"#);
        assert_eq!((&top, &text), (&ApiValue::Duplicate, &ApiValue::Duplicate));
        assert_eq!(number, ApiValue::Given(Scalar::Missing));
        let [top, rest @ ..] = read(r#"{"a":{"text":"x"},"top":"x","a":{"b":{"number":1}}}"#);
        assert_eq!(top, ApiValue::Given(Scalar::Text("x".into())));
        assert_eq!(rest, [const { ApiValue::Duplicate }; 3]);
        let unread = read(r#"{"a":{"text":"x","c":1,"c":2},"d":1,"d":2,"top":"x"}"#);
        assert!(!unread.contains(&ApiValue::Duplicate));
    }

    #[test]
    fn other_types_are_no_error() {
        let other = ApiValue::Given(Scalar::Other);
        for json in ["null", "[{}]", "1", "-1", "1.5", "true"] {
            assert_eq!(
                read(json),
                [&other, &other, &other, &other].map(Clone::clone),
                "{json}"
            );
        }
        let text = ApiValue::TextForObject;
        assert_eq!(
            read(r#"{"a":"x"}"#),
            [&ApiValue::Absent, &text, &other, &text].map(Clone::clone)
        );
        assert_eq!(read(r#"{"a":{"b":"x"}}"#)[2], text);
    }
}
