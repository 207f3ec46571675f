//! The JSON Schema of a record, for callers who check before they send. It is made from the model's own list of
//! fields; the model's parser is what decides.

use model::{Field, Text};
use serde_json::{Map, Value, json};

/// The media type of a JSON Schema.
pub(crate) const MEDIA_TYPE: &str = "application/schema+json";

/// The schema, in the dialect 2020-12.
pub fn user() -> Value {
    let properties: Map<_, _> = Field::ALL
        .into_iter()
        .map(|field| (field.name().to_owned(), property(field)))
        .collect();
    let required: Vec<_> = Field::ALL
        .into_iter()
        .filter(|field| field.is_required())
        .map(Field::name)
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:affluent:schema:{}", model::SCHEMA),
        "title": "User",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(field: Field) -> Value {
    match field {
        Field::Id => json!({
            "type": "string",
            "format": "uuid",
            "description": "Hyphenated, in either case, not nil.",
            // The nil uuid has no digit but zero.
            "pattern": "^(?=.*[1-9a-fA-F])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
        }),
        Field::Dob | Field::RegisteredDate => json!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, in the years 0001 to 9999 of UTC; kept to the millisecond.",
        }),
        Field::Email => text("^[^@]+@[^@]+$"),
        _ => text("\\S"),
    }
}

/// A text that is not blank and matches `pattern`.
fn text(pattern: &str) -> Value {
    json!({
        "type": "string",
        "maxLength": Text::LONGEST,
        "pattern": pattern,
        "not": {"pattern": "\\u0000"},
    })
}
