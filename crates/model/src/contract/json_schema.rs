//! The JSON Schema of a record, so that callers can validate before they send.

use serde_json::{Map, Value, json};

use super::Contract;
use super::field::{Field, Presence, Scalar};

impl Contract {
    /// The JSON Schema of a record, in dialect 2020-12. It can't express all rules; the parser decides.
    #[must_use]
    pub fn json_schema(&self) -> Value {
        let fields = self.fields();
        let properties: Map<_, _> = fields
            .iter()
            .map(|field| (field.name().to_owned(), property(field)))
            .collect();
        let required: Vec<_> = fields
            .iter()
            .filter(|field| field.is_required())
            .map(Field::name)
            .collect();
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": format!("urn:affluent:schema:{}", self.name()),
            "title": self.title(),
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }
}

fn property(field: &Field) -> Value {
    let value = scalar(field);
    match field.presence() {
        Presence::Required | Presence::Optional => value,
        Presence::List => json!({"type": "array", "items": value}),
        Presence::Map => json!({
            "type": "object",
            "additionalProperties": value,
            "propertyNames": text(field, "\\S"),
        }),
    }
}

fn scalar(field: &Field) -> Value {
    match field.scalar() {
        Scalar::Text if field.rules.email => text(field, "^[^@]+@[^@]+$"),
        Scalar::Text => text(field, "\\S"),
        Scalar::Uuid => json!({
            "type": "string",
            "format": "uuid",
            "description": "Hyphenated, in either case, not nil.",
            // The look-ahead excludes the nil UUID: it requires a digit other than zero.
            "pattern": "^(?=.*[1-9a-fA-F])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
        }),
        Scalar::Bool => json!({"type": "boolean"}),
        Scalar::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
        Scalar::Uint32 => integer(0, u32::MAX.into()),
        Scalar::Int64 => integer(i64::MIN, i64::MAX),
        Scalar::Float | Scalar::Double => json!({"type": "number"}),
        Scalar::Bytes => json!({
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^[A-Za-z0-9+/_-]*={0,2}$",
        }),
        Scalar::Enum(names) => json!({"enum": names}),
        Scalar::Timestamp => json!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, in the years 0001 to 9999 of UTC, with millisecond precision.",
        }),
    }
}

/// A text that matches `pattern`, which has to exclude blank texts.
fn text(field: &Field, pattern: &str) -> Value {
    json!({
        "type": "string",
        "maxLength": field.rules.max_length,
        "pattern": pattern,
        "not": {"pattern": "\\u0000"},
    })
}

/// An integer, or a string of its decimal digits.
fn integer(minimum: i64, maximum: i64) -> Value {
    json!({
        "type": ["integer", "string"],
        "minimum": minimum,
        "maximum": maximum,
        "pattern": "^(0|-?[1-9][0-9]*)$",
    })
}
