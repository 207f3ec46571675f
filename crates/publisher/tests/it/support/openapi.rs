//! Checks each response that a test receives against the OpenAPI document.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use model::Contract;
use reqwest::Response;
use serde_json::{Value, json};

use super::sample_contracts::{orders, readings};

/// The OpenAPI documents of the contracts that tests use, each with its resource's path.
static DOCUMENTS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    let contracts = [Contract::user(), orders(), readings()];
    let document = |contract: &Arc<Contract>| {
        (
            format!("/v1/{}", contract.resource()),
            publisher::routes::openapi(contract),
        )
    };
    contracts.iter().map(document).collect()
});

/// Cached, because compiling a validator takes longer than a request.
static VALIDATORS: LazyLock<Mutex<HashMap<(String, String), Validator>>> = LazyLock::new(Mutex::default);

/// The description of a response, before its body is read.
pub(crate) struct ResponseDescription {
    /// The resource's path, its document and the operation.
    operation: Option<(&'static str, &'static Value, &'static Value)>,
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
fn operation(path: &str) -> Option<(&'static str, &'static Value, &'static Value)> {
    let (resource, document) = DOCUMENTS
        .iter()
        .find(|(resource, _)| path.starts_with(resource.as_str()))
        .unwrap_or(&DOCUMENTS[0]);
    let mut paths = document["paths"].as_object().unwrap().iter();
    let (_, methods) = paths.find(|(template, _)| {
        let (prefix, has_key) = template
            .split_once('{')
            .map_or((&***template, false), |(prefix, _)| (prefix, true));
        path == prefix || (has_key && path.starts_with(prefix))
    })?;
    let methods = methods.as_object().unwrap();
    assert_eq!(methods.len(), 1, "{path}");
    Some((resource, document, methods.values().next().unwrap()))
}

impl ResponseDescription {
    /// Asserts that status, media type and body match the document.
    pub(crate) fn assert_matches(&self, body: &str) {
        let Some((resource, document, operation)) = self.operation else {
            return;
        };
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
            assert_eq!(validation_error((resource, document), name, body), None, "{body}");
        }
    }
}

/// The first validation error of a body.
fn validation_error((resource, document): (&str, &Value), name: &str, body: &str) -> Option<String> {
    let mut validators = VALIDATORS.lock().unwrap();
    let key = (resource.to_owned(), name.to_owned());
    let validator = validators.entry(key).or_insert_with(|| {
        let mut schema = document.clone();
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
