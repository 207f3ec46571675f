//! What describes the API to programs: the JSON Schema of a record and the OpenAPI document. Both are made once.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::routing::get;
use bytes::Bytes;
use model::headers::JSON;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{Modify, OpenApi as _, PartialSchema, ToSchema};

use super::{create, erase};
use crate::problem::Document;
use crate::schema;
use crate::verdict::{Counts, Place, RecordError};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Affluent publisher", description = "Takes users and answers once Kafka has acknowledged them"),
    paths(create::create, erase::erase, user_schema, openapi),
    components(schemas(Counts, RecordError, Place, Document, User, Users)),
    modifiers(&Token),
)]
struct Description;

/// One user or several.
pub(crate) struct Users;

/// A user, as `GET /v1/schema` describes it.
struct User;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

impl PartialSchema for User {
    fn schema() -> RefOr<Schema> {
        let schema = serde_json::from_value(schema::user());
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

/// The JSON Schema of a user.
#[utoipa::path(
    get,
    path = "/v1/schema",
    responses(
        (status = 200, content_type = "application/schema+json", body = serde_json::Value,
         description = "JSON Schema, dialect 2020-12"),
    )
)]
#[expect(dead_code, reason = "the attribute describes the route below")]
fn user_schema() {}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, body = serde_json::Value, description = "OpenAPI 3.1")),
)]
#[expect(dead_code, reason = "the attribute describes the route below")]
fn openapi() {}

/// The routes of the documents.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let schema = Bytes::from(schema::user().to_string());
    let openapi = Bytes::from(openapi_document());
    Router::new()
        .route("/v1/schema", get(async || typed(schema::MEDIA_TYPE, schema)))
        .route("/openapi.json", get(async || typed(JSON, openapi)))
}

/// The API as an OpenAPI document, as `GET /openapi.json` gives it.
pub fn openapi_document() -> String {
    document().to_json().expect("an OpenAPI document is JSON")
}

fn document() -> OpenApi {
    let mut document = Description::openapi();
    // The attribute macro writes an empty tag for each module.
    for path in document.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post, &mut path.delete] {
            untag(operation.as_mut());
        }
    }
    document
}

fn untag(operation: Option<&mut Operation>) {
    if let Some(operation) = operation {
        operation.tags = None;
    }
}

fn typed(media_type: &'static str, document: Bytes) -> ([(header::HeaderName, HeaderValue); 1], Bytes) {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))],
        document,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_describes_each_route() {
        let document: Value = serde_json::from_str(&document().to_json().unwrap()).unwrap();
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(
            paths,
            ["/openapi.json", "/v1/schema", "/v1/users", "/v1/users/{id}"]
        );
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas["User"]["properties"]["first_name"]["maxLength"] == 512);
        assert!(schemas.contains_key("Problem"));
    }

    #[test]
    fn every_response_has_the_description_that_openapi_demands() {
        let document: Value = serde_json::from_str(&document().to_json().unwrap()).unwrap();
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
