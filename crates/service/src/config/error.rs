//! What is wrong with a configuration: one error for each key, and the rules that values break.

use std::fmt;

use super::origin::Origin;
use crate::process::exit::chain;

/// One error of a configuration. It never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}{reason}", key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// Where the wrong key or value is given.
    pub origin: Origin,
    /// The key with dots; none if no key is at fault.
    pub key: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// All errors of a configuration, one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors: those of the file by line, of the environment, then of defaults.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A rule that the value of a key breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct Violation {
    /// The key with dots.
    pub key: String,
    /// What is wrong with its value, without quoting it.
    pub reason: String,
}

/// The rules that the settings break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self(vec![violation])
    }
}

/// Adds pairs of key and reason.
impl<V: Into<(String, String)>> Extend<V> for Violations {
    fn extend<I: IntoIterator<Item = V>>(&mut self, found: I) {
        for violation in found {
            let (key, reason): (String, String) = violation.into();
            self.add(key, reason);
        }
    }
}

impl Violations {
    /// Adds a violation of `key` unless the rule `holds`.
    pub fn require(&mut self, holds: bool, key: &str, reason: &str) {
        if !holds {
            self.add(key, reason);
        }
    }

    /// Adds a violation of `key` if `value` is zero.
    pub fn require_positive<T: Default + PartialEq>(&mut self, value: &T, key: &str) {
        self.require(*value != T::default(), key, "must be above zero");
    }

    /// Adds a violation of `key`.
    pub fn add(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Violation {
            key: key.into(),
            reason: reason.into(),
        });
    }

    /// Adds the error of a check of `key`, if there is one.
    pub fn check<T, E: std::error::Error>(&mut self, key: &str, result: Result<T, E>) {
        if let Err(error) = result {
            self.add(key, chain(&error));
        }
    }

    /// The violations in the order in which they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.0.iter()
    }

    /// Whether a rule of a key of `section` is broken.
    pub fn any_in(&self, section: &str) -> bool {
        let mut keys = self.0.iter().map(|violation| &violation.key);
        keys.any(|key| key.split('.').next() == Some(section))
    }

    /// Whether no rule is broken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
