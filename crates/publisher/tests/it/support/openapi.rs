//! Checks each response that a test receives against the OpenAPI document.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::Response;
use serde_json::{Value, json};

/// The OpenAPI document, as the publisher serves it.
pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&publisher::routes::openapi()).unwrap());

/// Cached, because compiling a validator takes longer than a request.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Validator>>> = LazyLock::new(Mutex::default);

/// The description of a response, before its body is read.
pub(crate) struct ResponseDescription {
    operation: Option<&'static Value>,
    status: u16,
    media_type: Option<String>,
}

/// Finds the description of a response; it is empty for a route outside the API.
pub(crate) fn describe(response: &Response) -> ResponseDescription {
    let media_type = response.headers().get("content-type");
    ResponseDescription {
        operation: operation(response.url().path()),
        status: response.status().as_u16(),
        media_type: media_type.map(|value| value.to_str().unwrap().to_owned()),
    }
}

/// Each path has one method.
fn operation(path: &str) -> Option<&'static Value> {
    let template = if path.starts_with("/v1/users/") {
        "/v1/users/{id}"
    } else {
        path
    };
    let methods = DOCUMENT["paths"].get(template)?.as_object().unwrap();
    assert_eq!(methods.len(), 1, "{template}");
    methods.values().next()
}

impl ResponseDescription {
    /// Asserts that status, media type and body match the document.
    pub(crate) fn assert_matches(&self, body: &str) {
        let Some(operation) = self.operation else { return };
        let responses = operation["responses"].as_object().unwrap();
        let class = format!("{}XX", self.status / 100);
        let described = responses.get(&self.status.to_string()).or(responses.get(&class));
        let described = described.unwrap_or_else(|| panic!("{} is not described", self.status));
        let Some(contents) = described["content"].as_object() else {
            assert_eq!(body, "", "{}", self.status);
            return;
        };
        let media_type = self.media_type.as_deref().unwrap_or("none");
        let schema = contents
            .get(media_type)
            .unwrap_or_else(|| panic!("{media_type} is not described for {}", self.status));
        if let Some(name) = schema["schema"]["$ref"].as_str() {
            assert_eq!(validation_error(name, body), None, "{body}");
        }
    }
}

/// The first validation error of a body.
fn validation_error(name: &str, body: &str) -> Option<String> {
    let mut validators = VALIDATORS.lock().unwrap();
    let validator = validators.entry(name.to_owned()).or_insert_with(|| {
        let mut schema = DOCUMENT.clone();
        schema["$ref"] = name.into();
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(
            !validator.is_valid(&json!({"accepted": "3"})),
            "the validator rejects invalid documents"
        );
        validator
    });
    let document = serde_json::from_str(body).unwrap();
    validator.validate(&document).err().map(|error| error.to_string())
}
