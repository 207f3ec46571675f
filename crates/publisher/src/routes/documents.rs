//! Serves the machine-readable documents: the JSON Schema of a record and the OpenAPI document. Both are rendered once,
//! for the contract.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::routing::get;
use bytes::Bytes;
use model::headers::JSON;
use model::{Contract, Scalar};
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use super::{create, erase};
use crate::http::problem::Document;
use crate::publish::result::{Counts, FieldError, RecordErrorDocument, RecordMetadata};

/// The media type of a JSON Schema.
const SCHEMA: &str = "application/schema+json";

/// The document with names in braces, which `document` replaces by those of the contract.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Affluent publisher",
        description = "Publishes {resource} to Kafka and responds once Kafka has acknowledged them"
    ),
    paths(create::create, erase::erase, schema, openapi),
    components(schemas(Counts, FieldError, RecordErrorDocument, RecordMetadata, Document)),
    modifiers(&BearerToken, &NoTags),
)]
struct Template;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token of the publisher's token file, or a JWT of its issuer",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// Removes the empty tag of each module, which the attribute macro adds.
struct NoTags;

impl Modify for NoTags {
    fn modify(&self, document: &mut OpenApi) {
        for path in document.paths.paths.values_mut() {
            for operation in [&mut path.get, &mut path.post, &mut path.delete] {
                remove_tags(operation.as_mut());
            }
        }
    }
}

fn remove_tags(operation: Option<&mut Operation>) {
    if let Some(operation) = operation {
        operation.tags = None;
    }
}

/// The JSON Schema of a record.
#[utoipa::path(
    get,
    path = "/v1/schema",
    operation_id = "{id}_schema",
    summary = "The JSON Schema of {article} {noun}.",
    responses(
        (status = 200, content_type = "application/schema+json", body = serde_json::Value,
         description = "JSON Schema, dialect 2020-12"),
    )
)]
#[expect(dead_code, reason = "the attribute describes the route below")]
fn schema() {}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, body = serde_json::Value, description = "OpenAPI 3.1")),
)]
#[expect(dead_code, reason = "the attribute describes the route below")]
fn openapi() {}

/// The routes of the documents.
pub(super) fn router<S: Clone + Send + Sync + 'static>(contract: &Contract) -> Router<S> {
    let schema = Bytes::from(contract.json_schema().to_string());
    let openapi = Bytes::from(document(contract).to_string());
    Router::new()
        .route("/v1/schema", get(async || typed(SCHEMA, schema)))
        .route("/openapi.json", get(async || typed(JSON, openapi)))
}

fn typed(media_type: &'static str, document: Bytes) -> ([(header::HeaderName, HeaderValue); 1], Bytes) {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))],
        document,
    )
}

/// The OpenAPI document of the API for a contract, as `GET /openapi.json` returns it.
pub fn document(contract: &Contract) -> Value {
    let resource = contract.resource();
    let key = &contract.fields()[contract.key()];
    let template = Template::openapi()
        .to_json()
        .expect("an OpenAPI document is JSON");
    let filled = fill(template, contract, key.name());
    let mut document: Value = serde_json::from_str(&filled).expect("the names need no escapes in JSON");

    let format = match key.scalar() {
        Scalar::Uuid => Some(("string", "uuid")),
        Scalar::Int32 => Some(("integer", "int32")),
        Scalar::Uint32 | Scalar::Int64 => Some(("integer", "int64")),
        _ => None,
    };
    let paths = &mut document["paths"];
    if let Some((kind, format)) = format {
        paths[format!("/v1/{resource}/{{{}}}", key.name())]["delete"]["parameters"][0]["schema"] =
            json!({"type": kind, "format": format});
    }
    let schemas = document["components"]["schemas"]
        .as_object_mut()
        .expect("the template has schemas");
    if *key.scalar() == Scalar::Uuid {
        for schema in ["RecordError", "RecordMetadata"] {
            schemas[schema]["properties"]["id"]["format"] = json!("uuid");
        }
    }
    let records = add_schemas(schemas, contract);
    document["paths"][format!("/v1/{resource}")]["post"]["requestBody"]["content"][JSON]["schema"] = records;
    document
}

/// Replaces the names in braces. Neither identifiers nor resources have characters that JSON escapes.
fn fill(template: String, contract: &Contract, key: &str) -> String {
    let id = snake_case(contract.title());
    let noun = id.replace('_', " ");
    let article = if noun.starts_with(['a', 'e', 'i', 'o']) {
        "an"
    } else {
        "a"
    };
    let rows = if contract.clustering().is_empty() {
        "The row is"
    } else {
        "All rows of the key are"
    };
    [
        ("{resource}", contract.resource()),
        ("{key}", key),
        ("{id}_schema", &format!("{id}_schema")),
        ("{article}", article),
        ("{noun}", &noun),
        ("{rows}", rows),
    ]
    .into_iter()
    .fold(template, |text, (name, value)| text.replace(name, value))
}

/// `OrderLine` as `order_line`.
fn snake_case(title: &str) -> String {
    let mut snake = String::new();
    for character in title.chars() {
        if character.is_ascii_uppercase() && snake.ends_with(|before: char| before.is_ascii_lowercase()) {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

/// Adds the schemas of a record and of one or many, under names that the document does not have yet. Returns a reference
/// to the latter.
fn add_schemas(schemas: &mut Map<String, Value>, contract: &Contract) -> Value {
    let mut record = contract.json_schema();
    let members = record.as_object_mut().expect("the schema is an object");
    // The document declares the dialect of all its schemas.
    members.remove("$schema");
    members.remove("$id");
    let record = add_schema(schemas, contract.title().to_owned(), record);
    let several = json!({"type": "array", "items": record, "minItems": 1});
    add_schema(
        schemas,
        format!("{}s", contract.title()),
        json!({"oneOf": [record, several]}),
    )
}

fn add_schema(schemas: &mut Map<String, Value>, mut name: String, schema: Value) -> Value {
    while schemas.contains_key(&name) {
        name.push('_');
    }
    let reference = json!({"$ref": format!("#/components/schemas/{name}")});
    schemas.insert(name, schema);
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(message: &str, fields: &str) -> Contract {
        let proto = format!(
            "syntax = \"proto3\";\nimport \"affluent/options/v1/options.proto\";\nmessage {message} {{\n{fields}\n}}"
        );
        Contract::from_source(&proto).unwrap()
    }

    fn order_line() -> Contract {
        contract(
            "OrderLine",
            "option (affluent.options.v1.record) = { resource: \"order-lines\" key: \"number\" clustering: \"line\" };
             int64 number = 1; int32 line = 2;",
        )
    }

    fn paths(document: &Value) -> Vec<&String> {
        document["paths"].as_object().unwrap().keys().collect()
    }

    #[test]
    fn openapi_describes_each_route() {
        let document = document(&Contract::user());
        assert_eq!(
            paths(&document),
            ["/openapi.json", "/v1/schema", "/v1/users", "/v1/users/{id}"]
        );
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas["User"]["properties"]["first_name"]["maxLength"] == 512);
        assert!(schemas.contains_key("Problem"));
        let delete = &document["paths"]["/v1/users/{id}"]["delete"];
        assert_eq!(delete["summary"], "Writes a tombstone for the user.");
        assert_eq!(delete["parameters"][0]["name"], "id");
        assert_eq!(
            delete["parameters"][0]["schema"],
            json!({"type": "string", "format": "uuid"})
        );
        assert_eq!(schemas["RecordError"]["properties"]["id"]["format"], "uuid");
    }

    #[test]
    fn openapi_has_the_names_of_the_contract() {
        let document = document(&order_line());
        assert_eq!(
            paths(&document),
            [
                "/openapi.json",
                "/v1/order-lines",
                "/v1/order-lines/{number}",
                "/v1/schema"
            ]
        );
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["OrderLine"]["required"], json!(["number", "line"]));
        assert_eq!(
            schemas["OrderLines"]["oneOf"][0]["$ref"],
            "#/components/schemas/OrderLine"
        );
        assert_eq!(
            schemas["RecordError"]["properties"]["id"]["type"],
            json!(["string", "null"])
        );
        assert_eq!(schemas["RecordError"]["properties"]["id"]["format"], Value::Null);
        let body = &document["paths"]["/v1/order-lines"]["post"]["requestBody"]["content"][JSON];
        assert_eq!(body["schema"]["$ref"], "#/components/schemas/OrderLines");
        let delete = &document["paths"]["/v1/order-lines/{number}"]["delete"];
        assert_eq!(delete["parameters"][0]["description"], "The order line's number");
        assert_eq!(
            delete["parameters"][0]["schema"],
            json!({"type": "integer", "format": "int64"})
        );
        assert!(
            delete["description"]
                .as_str()
                .unwrap()
                .starts_with("All rows of the key are")
        );
        let schema = &document["paths"]["/v1/schema"]["get"];
        assert_eq!(schema["operationId"], "order_line_schema");
        assert_eq!(schema["summary"], "The JSON Schema of an order line.");
        let text = document.to_string();
        for name in [
            "{resource}",
            "{key}",
            "{noun}",
            "{article}",
            "{rows}",
            "{id}",
            "user",
        ] {
            assert!(!text.contains(name), "{name}");
        }
    }

    #[test]
    fn record_may_have_the_name_of_another_schema() {
        let option =
            "option (affluent.options.v1.record) = { resource: \"problems\" key: \"k\" }; string k = 1;";
        let document = document(&contract("Problem", option));
        let schemas = &document["components"]["schemas"];
        assert!(schemas["Problem"]["properties"]["detail"].is_object());
        assert_eq!(schemas["Problem_"]["title"], "Problem");
        assert_eq!(
            schemas["Problems"]["oneOf"][0]["$ref"],
            "#/components/schemas/Problem_"
        );
    }

    #[test]
    fn every_response_has_a_description() {
        let document = document(&Contract::user());
        let paths = document["paths"].as_object().unwrap().values();
        for operation in paths.flat_map(|path| path.as_object().unwrap().values()) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let description = response["description"].as_str().unwrap_or_default();
                assert!(
                    !description.is_empty(),
                    "{status} of {}",
                    operation["operationId"]
                );
            }
        }
    }
}
