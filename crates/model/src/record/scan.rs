//! Parses the canonical encoding in one scan. Nearly all records have it; `parse` reads the others and reports errors.

use super::{Record, Value, value};
use crate::contract::{Contract, Field, Presence, Scalar};

impl Contract {
    /// Parses a record in the canonical encoding without escapes; any other text is `None`. Takes one scan, where
    /// [`Contract::parse_strict`] and [`Record::is_canonical`] together take three. The result is the same.
    #[must_use]
    pub fn parse_canonical<'a>(&'a self, json: &'a [u8]) -> Option<Record<'a>> {
        let mut scan = Scan {
            rest: std::str::from_utf8(json).ok()?,
        };
        let mut values = Vec::with_capacity(self.fields().len());
        scan.record(self, |field, raw| {
            values.push(match raw {
                Some(raw) => value::from_canonical(field, raw)?,
                None => Value::Absent,
            });
            Some(())
        })?;
        scan.rest.is_empty().then_some(Record {
            contract: self,
            values,
            has_unknown_fields: false,
        })
    }

    /// The length in bytes of the record at the start of a text, if it has the form of the canonical encoding: the
    /// fields in order, without white space or escapes. That form is valid JSON; its values are not checked.
    #[must_use]
    pub fn canonical_length(&self, text: &str) -> Option<usize> {
        let mut scan = Scan { rest: text };
        scan.record(self, |_, _| Some(()))?;
        Some(text.len() - scan.rest.len())
    }
}

/// The text of a value: without its quotes, if it has some.
pub(super) enum Raw<'a> {
    One(&'a str),
    List(Vec<&'a str>),
    Map(Vec<(&'a str, &'a str)>),
}

/// A cursor over a text.
struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    /// Passes each field to `each`, with its value unless it is absent.
    fn record(
        &mut self,
        contract: &Contract,
        mut each: impl FnMut(&Field, Option<Raw<'a>>) -> Option<()>,
    ) -> Option<()> {
        let mut separator = '{';
        for field in contract.fields() {
            let rest = self.rest.strip_prefix(separator);
            let raw = match rest.and_then(|rest| rest.strip_prefix(&*field.prefix)) {
                Some(rest) => {
                    self.rest = rest;
                    separator = ',';
                    Some(self.field(field)?)
                }
                None if field.presence() == Presence::Optional => None,
                None => return None,
            };
            each(field, raw)?;
        }
        self.skip("}")
    }

    fn field(&mut self, field: &Field) -> Option<Raw<'a>> {
        match field.presence() {
            Presence::Required | Presence::Optional => self.scalar(field.scalar()).map(Raw::One),
            Presence::List => {
                let mut elements = Vec::new();
                self.nested(["[", "]"], |scan| {
                    elements.push(scan.scalar(field.scalar())?);
                    Some(())
                })?;
                Some(Raw::List(elements))
            }
            Presence::Map => {
                let mut entries = Vec::new();
                self.nested(["{", "}"], |scan| {
                    let name = scan.text()?;
                    scan.skip(":")?;
                    entries.push((name, scan.scalar(field.scalar())?));
                    Some(())
                })?;
                Some(Raw::Map(entries))
            }
        }
    }

    /// Reads elements between brackets, separated by commas.
    fn nested(
        &mut self,
        [open, close]: [&str; 2],
        mut element: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.skip(open)?;
        if self.skip(close).is_some() {
            return Some(());
        }
        loop {
            element(self)?;
            if self.skip(close).is_some() {
                return Some(());
            }
            self.skip(",")?;
        }
    }

    fn scalar(&mut self, scalar: &Scalar) -> Option<&'a str> {
        match scalar {
            scalar if scalar.is_quoted() => self.text(),
            Scalar::Bool if self.rest.starts_with("true") => Some(self.take("true".len())),
            Scalar::Bool if self.rest.starts_with("false") => Some(self.take("false".len())),
            Scalar::Bool => None,
            _ => self.number(),
        }
    }

    /// Reads a string without escapes, and its quotes.
    fn text(&mut self) -> Option<&'a str> {
        let rest = self.rest.strip_prefix('"')?;
        let ends = |byte| matches!(byte, 0..b' ' | b'"' | b'\\');
        let (text, rest) = rest.split_at(rest.bytes().position(ends)?);
        self.rest = rest.strip_prefix('"')?;
        Some(text)
    }

    /// Reads a number as JSON's grammar has it.
    fn number(&mut self) -> Option<&'a str> {
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| {
            bytes[from..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(sign);
        if whole == 0 || (whole > 1 && bytes[sign] == b'0') {
            return None;
        }
        let mut length = sign + whole;
        if bytes.get(length) == Some(&b'.') {
            let fraction = digits(length + 1);
            if fraction == 0 {
                return None;
            }
            length += 1 + fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(length) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(length + 1 + sign);
            if exponent == 0 {
                return None;
            }
            length += 1 + sign + exponent;
        }
        Some(self.take(length))
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }
}
