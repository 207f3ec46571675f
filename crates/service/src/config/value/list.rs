//! A setting that is a list of texts.

use serde::{Deserialize, Deserializer, Serialize, de};

/// A list that TOML writes as an array and an environment variable with commas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct List(Vec<String>);

impl List {
    /// A list of these items.
    pub fn of<const N: usize>(items: [&str; N]) -> Self {
        Self(items.map(str::to_owned).into())
    }
}

impl std::ops::Deref for List {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a list of texts, or one text with commas")]
        enum Given {
            Text(String),
            Items(Vec<String>),
        }
        Ok(Self(match Given::deserialize(deserializer)? {
            Given::Text(text) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
            Given::Items(items) if items.iter().any(|item| item.trim().is_empty()) => {
                return Err(de::Error::custom("must not have an empty item"));
            }
            Given::Items(items) => items,
        }))
    }
}
