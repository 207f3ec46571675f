#![doc = include_str!("../README.md")]

mod record;
mod types;

mod partitioner;

pub mod headers;

pub use record::{Field, FieldName, Invalid, User, UserFields, canonical_length};
pub use types::{Email, Instant, JsonKind, Reason, Text, UserId, UserIdText};

/// The full name of the record's message in the contract, the value of the Kafka header `schema`.
pub const SCHEMA: &str = "affluent.users.v1.User";
