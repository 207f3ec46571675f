#![doc = include_str!("../README.md")]

mod parse;

mod email;
mod instant;
mod text;
mod user_id;

mod field;
mod invalid;
mod user;

mod canonical;
mod scan;

mod partition;

pub mod headers;

pub use email::Email;
pub use field::{Field, FieldName};
pub use instant::Instant;
pub use invalid::{Invalid, JsonKind, Reason};
pub use scan::canonical_length;
pub use text::Text;
pub use user::{User, UserFields};
pub use user_id::{UserId, UserIdText};

/// The full name of the record's message in the contract, as it stands in the Kafka header `schema`.
pub const SCHEMA: &str = "affluent.users.v1.User";
