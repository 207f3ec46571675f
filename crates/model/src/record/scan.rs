//! Parses the canonical encoding in one scan. Nearly all records have it; `parse` reads the others and reports errors.

use super::Record;
use super::value::{self, Raw, Value};
use crate::contract::{Contract, Field, Presence, Scalar};

impl Contract {
    /// Parses a record in the canonical encoding without escapes; any other text is `None`. Takes one scan, where
    /// [`Contract::parse_strict`] and [`Record::is_canonical`] together take three. The result is the same.
    #[must_use]
    pub fn parse_canonical<'a>(&'a self, json: &'a [u8]) -> Option<Record<'a>> {
        let mut scan = JsonScan {
            rest: std::str::from_utf8(json).ok()?,
        };
        let mut values = Vec::with_capacity(self.fields().len());
        scan.record(self, |field, raw| {
            match raw {
                Some(raw) => value::push_canonical(field, raw, &mut values)?,
                None => values.push(Value::Absent),
            }
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
        let mut scan = JsonScan { rest: text };
        scan.record(self, |_, _| Some(()))?;
        Some(text.len() - scan.rest.len())
    }
}

/// A cursor over a text.
struct JsonScan<'a> {
    rest: &'a str,
}

impl<'a> JsonScan<'a> {
    /// Passes each field to `each`, with its value unless it is absent.
    fn record(
        &mut self,
        contract: &Contract,
        mut each: impl FnMut(&Field, Option<Raw<'a>>) -> Option<()>,
    ) -> Option<()> {
        let mut separator = b'{';
        for field in contract.fields() {
            let raw = match self.after_name(separator, field) {
                Some(rest) => {
                    self.rest = rest;
                    separator = b',';
                    Some(self.field(field)?)
                }
                None if field.presence() == Presence::Optional => None,
                None => return None,
            };
            each(field, raw)?;
        }
        self.expect(b'}')
    }

    /// The rest after the separator and the field's name, if they are next.
    fn after_name(&self, separator: u8, field: &Field) -> Option<&'a str> {
        let named = self.rest.as_bytes().strip_prefix(&[separator])?;
        let name = named.get(..field.prefix.len())?;
        is_equal(name, field.prefix.as_bytes()).then(|| &self.rest[1 + field.prefix.len()..])
    }

    fn field(&mut self, field: &Field) -> Option<Raw<'a>> {
        match field.presence() {
            Presence::Required | Presence::Optional => self.scalar(field.scalar()).map(Raw::One),
            Presence::List => {
                let mut elements = Vec::new();
                self.nested([b'[', b']'], |scan| {
                    elements.push(scan.scalar(field.scalar())?);
                    Some(())
                })?;
                Some(Raw::List(elements))
            }
            Presence::Map => {
                let mut entries = Vec::new();
                self.nested([b'{', b'}'], |scan| {
                    let name = scan.text()?;
                    scan.expect(b':')?;
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
        [open, close]: [u8; 2],
        mut element: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.expect(open)?;
        if self.expect(close).is_some() {
            return Some(());
        }
        loop {
            element(self)?;
            if self.expect(close).is_some() {
                return Some(());
            }
            self.expect(b',')?;
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
        self.expect(b'"')?;
        let text = self.take(plain_length(self.rest.as_bytes())?);
        self.expect(b'"')?;
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

    /// Skips an ASCII character.
    fn expect(&mut self, character: u8) -> Option<()> {
        let is_next = self.rest.as_bytes().first() == Some(&character);
        is_next.then(|| self.rest = &self.rest[1..])
    }
}

/// The number of bytes before the first quote, backslash or control character, if there is one. Tests eight bytes at a
/// time: subtracting borrows into the highest bit of a byte only if it, or one before it, is smaller.
fn plain_length(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let ends = |byte: &u8| matches!(byte, 0..b' ' | b'"' | b'\\');
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = below(word, b' ') | quote | backslash;
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(ends).map(|index| words.len() * 8 + index)
}

/// Compares texts of equal length. Most have 8 to 24 bytes, for which a call of `memcmp` takes longer.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let words = left.iter().zip(right);
    words.fold(0, |difference, (left, right)| {
        difference | (u64::from_ne_bytes(*left) ^ u64::from_ne_bytes(*right))
    }) == 0
        && left_rest
            .iter()
            .zip(right_rest)
            .fold(0, |difference, (left, right)| difference | (left ^ right))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_length_is_that_of_a_simple_search() {
        let simple = |text: &[u8]| {
            text.iter()
                .position(|byte| matches!(byte, 0..b' ' | b'"' | b'\\'))
        };
        for byte in 0..=u8::MAX {
            for (length, place) in [(1, 0), (7, 3), (8, 0), (8, 7), (16, 9), (20, 18)] {
                for filler in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
                    let mut text = vec![filler; length];
                    text[place] = byte;
                    assert_eq!(plain_length(&text), simple(&text), "{text:?}");
                    text.extend_from_slice(b"\"\0\\");
                    assert_eq!(plain_length(&text), simple(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn texts_are_equal_in_each_byte() {
        for length in 0..30 {
            let text = vec![b'a'; length];
            assert!(is_equal(&text, &text));
            for place in 0..length {
                let mut other = text.clone();
                other[place] = b'b';
                assert!(!is_equal(&text, &other), "{length} {place}");
            }
        }
    }
}
