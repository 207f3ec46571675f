//! The JSON Schema of a record, so that callers can validate before they send. It is derived from the model's list of
//! fields. The model's parser decides whether a record is valid.

use model::{Field, Text};
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

/// The media type of a JSON Schema.
pub(super) const MEDIA_TYPE: &str = "application/schema+json";

/// A user in the OpenAPI document.
pub(super) struct User;

/// One user or an array of users in the OpenAPI document.
pub(super) struct Users;

/// The schema of a user, in dialect 2020-12.
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
            // The look-ahead excludes the nil UUID: it requires a digit other than zero.
            "pattern": "^(?=.*[1-9a-fA-F])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
        }),
        Field::Dob | Field::RegisteredDate => json!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, in the years 0001 to 9999 of UTC, with millisecond precision.",
        }),
        Field::Email => text("^[^@]+@[^@]+$"),
        _ => text("\\S"),
    }
}

/// A text that matches `pattern`, which has to exclude blank texts.
fn text(pattern: &str) -> Value {
    json!({
        "type": "string",
        "maxLength": Text::LONGEST,
        "pattern": pattern,
        "not": {"pattern": "\\u0000"},
    })
}

impl PartialSchema for User {
    fn schema() -> RefOr<Schema> {
        let schema = serde_json::from_value(user());
        RefOr::T(schema.expect("a JSON Schema of one object is an OpenAPI schema"))
    }
}

impl ToSchema for User {}

impl PartialSchema for Users {
    fn schema() -> RefOr<Schema> {
        let user = RefOr::Ref(utoipa::openapi::Ref::from_schema_name("User"));
        let several = utoipa::openapi::ArrayBuilder::new()
            .items(user.clone())
            .min_items(Some(1));
        let either = utoipa::openapi::OneOfBuilder::new().item(user).item(several);
        RefOr::T(Schema::OneOf(either.build()))
    }
}

impl ToSchema for Users {}
