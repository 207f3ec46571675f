//! The types of columns.

use std::fmt;

/// The type of a column, displayed as Cassandra's `system_schema.columns` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are CQL's own")]
pub enum CqlType {
    Text,
    Uuid,
    Boolean,
    Int,
    Bigint,
    Float,
    Double,
    Blob,
    Timestamp,
    /// A frozen list of these.
    List(Box<CqlType>),
    /// A frozen map from text to these.
    Map(Box<CqlType>),
}

impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Uuid => f.write_str("uuid"),
            Self::Boolean => f.write_str("boolean"),
            Self::Int => f.write_str("int"),
            Self::Bigint => f.write_str("bigint"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Blob => f.write_str("blob"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(element) => write!(f, "frozen<list<{element}>>"),
            Self::Map(value) => write!(f, "frozen<map<text, {value}>>"),
        }
    }
}
