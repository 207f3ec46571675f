//! Serves the machine-readable documents: the JSON Schema of a record and the OpenAPI document. Both are rendered
//! once.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::routing::get;
use bytes::Bytes;
use model::headers::JSON;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use super::schema::{self, User, Users};
use super::{create, erase};
use crate::http::problem::Document;
use crate::publish::result::{Counts, RecordError, RecordMetadata};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Affluent publisher",
        description = "Publishes users to Kafka and responds once Kafka has acknowledged them"
    ),
    paths(create::create, erase::erase, user_schema, openapi),
    components(schemas(Counts, RecordError, RecordMetadata, Document, User, Users)),
    modifiers(&BearerToken),
)]
struct ApiDocument;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

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

/// The OpenAPI document of the API, as `GET /openapi.json` returns it.
pub fn openapi_document() -> String {
    document().to_json().expect("an OpenAPI document is JSON")
}

fn document() -> OpenApi {
    let mut document = ApiDocument::openapi();
    // The attribute macro adds an empty tag for each module.
    for path in document.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post, &mut path.delete] {
            remove_tags(operation.as_mut());
        }
    }
    document
}

fn remove_tags(operation: Option<&mut Operation>) {
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
    fn openapi_describes_each_route() {
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
    fn every_response_has_a_description() {
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
