//! Encodes a record as canonical JSON: the contract's names in its order, no white space, only required escapes.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::value::write_number;
use super::{Record, Value};
use crate::contract::Scalar;

impl Record<'_> {
    /// Returns the canonical encoding.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(640); // The users of the API have 420 to 560 bytes.
        self.write_json(&mut json);
        json
    }

    /// Appends the canonical encoding to `json`.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        let mut separator = b'{';
        for (field, value) in self.contract.fields().iter().zip(&self.values) {
            if !matches!(value, Value::Absent) {
                json.push(separator);
                json.extend_from_slice(field.prefix.as_bytes());
                write(value, field.scalar(), json);
                separator = b',';
            }
        }
        json.push(b'}');
    }

    /// Whether `json` is the canonical encoding of this record.
    #[must_use]
    pub fn is_canonical(&self, json: &[u8]) -> bool {
        self.to_json() == json
    }

    /// Returns the canonical encoding: `original`, which this record was parsed from, if it is canonical.
    #[must_use]
    pub fn canonical_json<'b>(&self, original: &'b [u8]) -> Cow<'b, [u8]> {
        let json = self.to_json();
        if json == original {
            Cow::Borrowed(original)
        } else {
            Cow::Owned(json)
        }
    }
}

fn write(value: &Value<'_>, scalar: &Scalar, json: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    match value {
        Value::Absent => unreachable!("an absent field is omitted, and no element is absent"),
        Value::Text(text) => write_text(text, json),
        Value::Uuid(uuid) => quote(uuid.hyphenated().encode_lower(&mut [0; 36]), json),
        Value::Bool(flag) => json.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Int(number) => json.extend_from_slice(digits.format(*number).as_bytes()),
        Value::Bigint(number) if *scalar == Scalar::Uint32 => {
            json.extend_from_slice(digits.format(*number).as_bytes());
        }
        Value::Bigint(number) => quote(digits.format(*number), json),
        Value::Float(number) => write_number(number, json),
        Value::Double(number) => write_number(number, json),
        Value::Bytes(bytes) => {
            json.push(b'"');
            json.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            json.push(b'"');
        }
        Value::Enum(index) => {
            let Scalar::Enum(names) = scalar else {
                unreachable!("the value has the field's type")
            };
            quote(&names[*index], json);
        }
        Value::Timestamp(instant) => write_number(instant, json),
        Value::List(elements) => {
            json.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                write(element, scalar, json);
            }
            json.push(b']');
        }
        Value::Map(entries) => {
            json.push(b'{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                write_text(key, json);
                json.push(b':');
                write(value, scalar, json);
            }
            json.push(b'}');
        }
    }
}

/// Writes a text in quotes, with the escapes that it needs.
fn write_text(text: &str, json: &mut Vec<u8>) {
    serde_json::to_writer(json, text).expect("writing a string to memory does not fail");
}

/// Writes a text in quotes that needs no escape.
fn quote(text: &str, json: &mut Vec<u8>) {
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}
