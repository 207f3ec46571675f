//! The keys that a service knows: the leaves of its default settings.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tree::leaves;

/// Below this similarity (0 to 1) a known key is not suggested for an unknown one.
const MIN_SIMILARITY: f64 = 0.4;

/// The known keys. An empty map among the defaults accepts any key below it.
pub(super) struct Keys {
    values: BTreeSet<String>,
    maps: BTreeSet<String>,
}

/// What a given key is.
pub(super) enum KeyKind {
    /// The key of a value.
    Value,
    /// Names a file with the value of this key.
    FileOf(String),
    /// The name of a section, which has no value itself.
    Section,
    /// Not known.
    Unknown,
}

impl Keys {
    pub(super) fn of(defaults: &Value) -> Self {
        let (maps, values): (Vec<_>, Vec<_>) =
            leaves(defaults).partition(|(_, value)| value.as_object().is_some());
        let keys = |leaves: Vec<(String, &Value)>| leaves.into_iter().map(|(key, _)| key).collect();
        Self {
            values: keys(values),
            maps: keys(maps),
        }
    }

    pub(super) fn find(&self, key: &str) -> KeyKind {
        if self.values.contains(key) {
            return KeyKind::Value;
        }
        match key.strip_suffix("_file") {
            Some(base) if self.accepts(base) => KeyKind::FileOf(base.to_owned()),
            _ if self.is_in_map(key) => KeyKind::Value,
            _ if self.is_section(key) => KeyKind::Section,
            _ => KeyKind::Unknown,
        }
    }

    /// Whether `key` is an entry of a map.
    pub(super) fn is_in_map(&self, key: &str) -> bool {
        let in_map = |map: &String| {
            key.strip_prefix(map.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        };
        self.maps.iter().any(in_map)
    }

    /// The known key that is most similar to `key`.
    pub(super) fn nearest(&self, key: &str) -> Option<String> {
        self.with_words(key).or_else(|| {
            self.values
                .iter()
                .chain(&self.maps)
                .map(|known| (strsim::normalized_damerau_levenshtein(key, known), known))
                .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
                .max_by(|(a, _), (b, _)| a.total_cmp(b))
                .map(|(_, known)| known.clone())
        })
    }

    /// The key that consists of the words of `text`, however they are separated.
    pub(super) fn with_words(&self, text: &str) -> Option<String> {
        let text = words(text);
        let value = |text: &str| self.values.iter().find(|key| words(key) == text).cloned();
        let in_map = |map: &String| {
            let name = text.strip_prefix(&words(map))?.strip_prefix('_')?;
            Some(format!("{map}.{name}"))
        };
        value(&text)
            .or_else(|| value(text.strip_suffix("_file")?).map(|key| key + "_file"))
            .or_else(|| self.maps.iter().find_map(in_map))
    }

    fn accepts(&self, key: &str) -> bool {
        self.values.contains(key) || self.is_in_map(key)
    }

    fn is_section(&self, key: &str) -> bool {
        let below = |known: &String| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        self.maps.contains(key) || self.values.iter().chain(&self.maps).any(below)
    }
}

/// The words of a key or of a variable's name, separated by single underscores.
fn words(text: &str) -> String {
    let words: Vec<_> = text.split(['.', '_']).filter(|word| !word.is_empty()).collect();
    words.join("_")
}
