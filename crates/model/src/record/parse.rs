//! Parses a record from JSON: finds each field's raw JSON, then reads it by the field's type and rules.
//!
//! Values are raw slices at first, which `serde_json` skips without recursion. So an invalid value neither hides the key
//! after it nor costs a copy.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::Record;
use super::invalid::{FieldError, FieldName, Invalid};
use super::json_name::Name;
use super::value::{self, Policy, Value};
use crate::Key;
use crate::contract::{Contract, Field, Presence};
use crate::types::Reason;

impl Contract {
    /// Parses one JSON object from a caller: the record's fields and no others, each in its own type.
    ///
    /// # Errors
    /// See [`Invalid`].
    pub fn parse_strict<'a>(&'a self, json: &'a [u8]) -> Result<Record<'a>, Invalid> {
        parse(self, json, Policy::Strict)
    }

    /// Parses one JSON object from a topic. Ignores unknown fields, takes integers with leading zeros, and integers as
    /// text where the contract says so.
    ///
    /// # Errors
    /// See [`Invalid`].
    pub fn parse_lenient<'a>(&'a self, json: &'a [u8]) -> Result<Record<'a>, Invalid> {
        // Nearly all records of a topic are canonical.
        self.parse_canonical(json)
            .map_or_else(|| parse(self, json, Policy::Lenient), Ok)
    }

    /// Builds a record from texts, each in the field's canonical form or another that a caller may send.
    ///
    /// # Errors
    /// See [`Invalid`].
    pub fn record_from_texts<'a>(
        &'a self,
        mut text: impl FnMut(&Field) -> Option<Cow<'a, str>>,
    ) -> Result<Record<'a>, Invalid> {
        let mut values = Values::new(self);
        for field in self.fields() {
            values.push(
                field,
                text(field).map(|text| value::from_text(field, text, Policy::Strict)),
            );
        }
        values.finish(false)
    }

    /// Parses the text of a key as a caller writes it: an integer in its shortest form, a uuid in either case.
    ///
    /// # Errors
    /// The rule of the key's field that the text breaks.
    pub fn parse_key_strict(&self, text: &[u8]) -> Result<Key, Reason> {
        value::key_from_text(&self.fields()[self.key()], text, Policy::Strict)
    }

    /// Parses the key of a record in a topic. Also takes an integer with leading zeros.
    ///
    /// # Errors
    /// The rule of the key's field that the text breaks.
    pub fn parse_key(&self, text: &[u8]) -> Result<Key, Reason> {
        value::key_from_text(&self.fields()[self.key()], text, Policy::Lenient)
    }
}

fn parse<'a>(contract: &'a Contract, json: &'a [u8], policy: Policy) -> Result<Record<'a>, Invalid> {
    let text = std::str::from_utf8(json).map_err(|error| {
        let reason = Reason::NotUtf8 {
            offset: error.valid_up_to(),
        };
        Invalid::new(vec![FieldError::record(reason)], None)
    })?;
    let mut found = Found::new(contract);
    if let Err(reason) = found.scan(text) {
        return Err(Invalid::new(vec![FieldError::record(reason)], found.key(policy)));
    }
    let mut values = Values::new(contract);
    if policy == Policy::Strict {
        let unknown = found.unknown.iter().cloned();
        values.names.extend(unknown.map(|name| FieldError {
            field: Some(name),
            reason: Reason::UnknownField,
        }));
    }
    let duplicates = found.duplicates.iter().map(|slot| &contract.fields()[*slot]);
    values
        .names
        .extend(duplicates.map(|field| FieldError::of(field, Reason::DuplicateField)));
    for (field, raw) in contract.fields().iter().zip(&found.values) {
        values.push(field, raw.map(|raw| value::from_json(field, raw, policy)));
    }
    let has_unknown_fields = !found.unknown.is_empty();
    values.finish(has_unknown_fields).map_err(|invalid| {
        // A key that is given twice identifies nothing.
        if found.duplicates.contains(&contract.key()) {
            Invalid::new(invalid.errors().to_vec(), None)
        } else {
            invalid
        }
    })
}

/// Collects a record's values by slot, and its errors by the order in which they are reported.
struct Values<'a> {
    contract: &'a Contract,
    values: Vec<Value<'a>>,
    /// Unknown fields and fields given twice.
    names: Vec<FieldError>,
    /// Missing fields and wrong types.
    types: Vec<FieldError>,
    /// Broken rules.
    rules: Vec<FieldError>,
}

impl<'a> Values<'a> {
    fn new(contract: &'a Contract) -> Self {
        let values = Vec::with_capacity(contract.fields().len());
        Self {
            contract,
            values,
            names: vec![],
            types: vec![],
            rules: vec![],
        }
    }

    /// Adds the value of the next slot; `None` if the field is absent.
    fn push(&mut self, field: &Field, value: Option<Result<Value<'a>, Reason>>) {
        let value = value.unwrap_or_else(|| match field.presence() {
            Presence::Required => Err(Reason::Missing),
            Presence::Optional => Ok(Value::Absent),
            Presence::List => Ok(Value::List(vec![])),
            Presence::Map => Ok(Value::Map(vec![])),
        });
        let value = value.unwrap_or_else(|reason| {
            let errors = if reason.is_type() {
                &mut self.types
            } else {
                &mut self.rules
            };
            errors.push(FieldError::of(field, reason));
            Value::Absent
        });
        self.values.push(value);
    }

    fn finish(self, has_unknown_fields: bool) -> Result<Record<'a>, Invalid> {
        let (contract, values) = (self.contract, self.values);
        let mut errors = self.names;
        errors.extend(self.types);
        errors.extend(self.rules);
        if errors.is_empty() {
            Ok(Record {
                contract,
                values,
                has_unknown_fields,
            })
        } else {
            Err(Invalid::new(errors, value::key(&values[contract.key()])))
        }
    }
}

/// The raw JSON of each field, and the names that are unknown or given twice.
struct Found<'a> {
    contract: &'a Contract,
    values: Vec<Option<&'a str>>,
    unknown: Vec<FieldName>,
    duplicates: Vec<usize>,
    /// The slot that is expected next: most writers keep the contract's order.
    next: usize,
}

impl<'a> Found<'a> {
    fn new(contract: &'a Contract) -> Self {
        let values = vec![None; contract.fields().len()];
        Self {
            contract,
            values,
            unknown: vec![],
            duplicates: vec![],
            next: 0,
        }
    }

    fn scan(&mut self, text: &'a str) -> Result<(), Reason> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let scanned = deserializer
            .deserialize_map(&mut *self)
            .and_then(|()| deserializer.end());
        scanned.map_err(|error| reason(&error))
    }

    fn slot(&mut self, name: &str) -> Option<usize> {
        let is_next = self
            .contract
            .fields()
            .get(self.next)
            .is_some_and(|field| field.name() == name);
        let slot = if is_next {
            self.next
        } else {
            self.contract.slot(name)?
        };
        self.next = slot + 1;
        Some(slot)
    }

    fn keep(&mut self, slot: usize, value: &'a str) {
        let is_duplicate = self.values[slot].replace(value).is_some();
        if is_duplicate && !self.duplicates.contains(&slot) {
            self.duplicates.push(slot);
        }
    }

    /// The key of JSON that ends early, if it was given once until then and is valid.
    fn key(&self, policy: Policy) -> Option<Key> {
        let slot = self.contract.key();
        if self.duplicates.contains(&slot) {
            return None;
        }
        let value = value::from_json(&self.contract.fields()[slot], self.values[slot]?, policy);
        value.ok().as_ref().and_then(value::key)
    }
}

impl<'de> Visitor<'de> for &mut Found<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Name(name)) = map.next_key()? {
            if let Some(slot) = self.slot(&name) {
                self.keep(slot, map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
                let name = FieldName::unknown(&name);
                if self.unknown.len() < Invalid::MAX_ERRORS && !self.unknown.contains(&name) {
                    self.unknown.push(name);
                }
            }
        }
        Ok(())
    }
}

/// The reason of a text that is not a JSON object. Quotes only the parser's constant texts: those of serde for a wrong
/// type quote the value.
fn reason(error: &serde_json::Error) -> Reason {
    if error.classify() == Category::Data {
        return Reason::NotAnObject;
    }
    let (line, column) = (error.line(), error.column());
    let mut cause = error.to_string();
    if let Some(end) = cause.rfind(" at line ") {
        cause.truncate(end);
    }
    Reason::Malformed { line, column, cause }
}
