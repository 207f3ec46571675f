//! A record of a contract: its values, valid by construction, and their encodings.

mod bind;
mod encode;
mod invalid;
mod json_name;
mod parse;
mod scan;
pub(crate) mod value;

use std::fmt;

pub use invalid::{FieldError, FieldName, Invalid};
pub use value::Value;

use crate::{Contract, Key};

/// A record, valid by construction. Its texts borrow from the parsed JSON where possible.
#[derive(Clone, PartialEq)]
pub struct Record<'a> {
    contract: &'a Contract,
    /// By slot.
    values: Vec<Value<'a>>,
    has_unknown_fields: bool,
}

impl<'a> Record<'a> {
    /// The contract that it fulfils.
    #[must_use]
    pub fn contract(&self) -> &'a Contract {
        self.contract
    }

    /// The value of the key's field.
    #[must_use]
    pub fn key(&self) -> Key {
        value::key(&self.values[self.contract.key()]).expect("the key has a type that the contract accepts")
    }

    /// The value in a slot.
    ///
    /// # Panics
    /// If the contract has no such slot.
    #[must_use]
    pub fn value(&self, slot: usize) -> &Value<'a> {
        &self.values[slot]
    }

    /// Whether the JSON had fields that the contract does not have. Only a lenient reader accepts them.
    #[must_use]
    pub fn has_unknown_fields(&self) -> bool {
        self.has_unknown_fields
    }
}

/// Two contracts are equal if their records can't be told apart.
impl PartialEq for Contract {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

/// Shows the key only: the rest may be personal data.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.contract.title())
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
