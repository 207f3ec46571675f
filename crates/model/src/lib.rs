#![doc = include_str!("../README.md")]

mod contract;
mod record;
mod types;

mod key;
mod partitioner;

pub mod headers;

pub use contract::{Contract, ContractError, CqlType, Field, Presence, Scalar};
pub use key::{Key, KeyText};
pub use record::{FieldError, FieldName, Invalid, Record, Value};
pub use types::{Instant, JsonKind, Reason};
