//! The record: its fields, its JSON, and its validation errors.

mod encode;
mod field;
mod invalid;
mod parse;
mod parse_canonical;
mod user;

pub use field::{Field, FieldName};
pub use invalid::Invalid;
pub use parse_canonical::canonical_length;
pub use user::{User, UserFields};
