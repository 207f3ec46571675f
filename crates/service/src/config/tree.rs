//! Settings as a tree of values, from which the typed settings are deserialized.

use config::{Map, Value, ValueKind};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

/// Values by section and name. `config` converts texts to numbers and booleans where a setting wants them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree(Map<String, Value>);

impl Tree {
    /// The single values among the service's defaults: they differ from the defaults of a section's type where services
    /// share one. Lists and absent values are left to the type.
    pub(super) fn of_defaults(defaults: &Json) -> Self {
        let mut tree = Self::default();
        let single = |value: &Json| !(value.is_null() || value.is_array() || value.is_object());
        for (key, value) in leaves(defaults).filter(|(_, value)| single(value)) {
            let path: Vec<_> = key.split('.').map(str::to_owned).collect();
            tree.insert(&path, Value::new(None, text(value)));
        }
        tree
    }

    /// Sets the value at `path`.
    pub(super) fn insert(&mut self, path: &[String], value: Value) {
        let Some((name, sections)) = path.split_last() else {
            return;
        };
        let mut entries = &mut self.0;
        for section in sections {
            let below = entries
                .entry(section.clone())
                .or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            if !matches!(below.kind, ValueKind::Table(_)) {
                below.kind = ValueKind::Table(Map::new());
            }
            let ValueKind::Table(table) = &mut below.kind else {
                return;
            };
            entries = table;
        }
        entries.insert(name.clone(), value);
    }

    pub(super) fn deserialize<S: DeserializeOwned>(self) -> Result<S, config::ConfigError> {
        Value::new(None, ValueKind::Table(self.0)).try_deserialize()
    }
}

/// Every key of `tree` with its value; an empty object is the value of its key.
pub(super) fn leaves(tree: &Json) -> impl Iterator<Item = (String, &Json)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), tree)];
    while let Some((path, value)) = open.pop() {
        match value {
            Json::Object(entries) if path.is_empty() || !entries.is_empty() => {
                let below = entries
                    .iter()
                    .rev()
                    .map(|(name, value)| (join(&path, name), value));
                open.extend(below);
            }
            other => found.push((path, other)),
        }
    }
    found.into_iter()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
