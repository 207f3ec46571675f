//! The JSON Schema of a service's configuration file, for editors.
//!
//! Keys and defaults are those of the settings, descriptions are those of the service's README. It finds misspelt keys and
//! values of another type; rules between settings are checked by `--check-config`.

use serde_json::{Value as Json, json};

use super::draft::json as defaults_of;
use super::settings::Settings;

/// The schema of `S`. An editor finds it by `#:schema FILE` in the first line of the TOML file.
pub fn schema<S: Settings>() -> Json {
    let mut schema = object(&defaults_of(&S::default()), "", S::REFERENCE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(format!("Configuration of the {}", S::SERVICE));
    schema
}

fn object(defaults: &Json, section: &str, reference: &str) -> Json {
    let mut properties = serde_json::Map::new();
    for (name, default) in defaults.as_object().into_iter().flatten() {
        let key = if section.is_empty() {
            name.clone()
        } else {
            format!("{section}.{name}")
        };
        let mut property = match default {
            Json::Object(entries) if entries.is_empty() => {
                json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
            }
            Json::Object(_) => object(default, &key, reference),
            _ => {
                let file = format!("a file that holds the value of `{key}`");
                properties.insert(
                    format!("{name}_file"),
                    json!({"type": "string", "description": file}),
                );
                value(default)
            }
        };
        if let Some(text) = description(reference, &key) {
            property["description"] = json!(text);
        }
        properties.insert(name.clone(), property);
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// The schema of a value with this default. A text is accepted for each type, as from the environment.
fn value(default: &Json) -> Json {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let mut schema = match default {
        Json::Array(_) => json!({"anyOf": [{"type": "string"}, list]}),
        Json::Bool(_) => json!({"type": ["boolean", "string"]}),
        Json::Number(_) => json!({"type": ["number", "string"]}),
        // Sizes are texts, and integers are bytes.
        Json::String(_) => json!({"type": ["string", "integer"]}),
        Json::Null | Json::Object(_) => {
            return json!({"anyOf": [{"type": ["string", "number", "boolean"]}, list]});
        }
    };
    schema["default"] = default.clone();
    schema
}

/// The last column of the key's row in the README.
fn description<'a>(reference: &'a str, key: &str) -> Option<&'a str> {
    let row = format!("| `{key}` |");
    let row = reference.lines().find_map(|line| line.strip_prefix(&row))?;
    let (_, text) = row.trim_end().trim_end_matches('|').split_once(" | ")?;
    Some(text.trim())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::config::List;

    #[derive(Serialize, Deserialize)]
    #[serde(default)]
    struct Example {
        kafka: Kafka,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(default)]
    struct Kafka {
        brokers: List,
        partitions: u16,
        linger: String,
        topic: Option<String>,
        properties: BTreeMap<String, String>,
    }

    impl Default for Example {
        fn default() -> Self {
            let kafka = Kafka::default();
            Self { kafka }
        }
    }

    impl Default for Kafka {
        fn default() -> Self {
            Self {
                brokers: List::of(["127.0.0.1:9092"]),
                partitions: 6,
                linger: "5ms".to_owned(),
                topic: None,
                properties: BTreeMap::new(),
            }
        }
    }

    impl Settings for Example {
        const SERVICE: &'static str = "example";
        const REFERENCE: &'static str = "| key | default | |\n|---|---|---|\n\
            | `kafka.partitions` | `6` | of a created topic |\n";
    }

    #[test]
    fn schema_has_each_key_with_type_default_and_description() {
        let schema = schema::<Example>();
        assert_eq!(schema["additionalProperties"], false);
        let kafka = &schema["properties"]["kafka"];
        assert_eq!(kafka["additionalProperties"], false);
        let keys: Vec<_> = kafka["properties"].as_object().unwrap().keys().collect();
        let expected = [
            "brokers",
            "brokers_file",
            "linger",
            "linger_file",
            "partitions",
            "partitions_file",
            "properties",
            "topic",
            "topic_file",
        ];
        assert_eq!(keys, expected);
        assert_eq!(
            kafka["properties"]["partitions"],
            json!({"type": ["number", "string"], "default": 6, "description": "of a created topic"})
        );
        assert!(kafka["properties"]["properties"]["additionalProperties"].is_object());
    }
}
