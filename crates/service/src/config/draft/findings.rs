//! Collects the errors of all layers.

use std::collections::BTreeSet;

use crate::config::error::{ConfigError, ConfigErrors, Violation};
use crate::config::origin::Origin;

/// The errors so far.
#[derive(Default)]
pub(super) struct Findings {
    errors: Vec<ConfigError>,
    /// Keys whose intended value is not known.
    unusable: BTreeSet<String>,
    is_incomplete: bool,
}

impl Findings {
    /// Adds an error that hides a whole layer.
    pub(super) fn incomplete(&mut self, origin: Origin, reason: String) {
        self.is_incomplete = true;
        self.add(origin, None, reason);
    }

    /// Adds an error in the value of `key`.
    pub(super) fn wrong(&mut self, origin: Origin, key: String, reason: &str) {
        self.unusable(origin, Some(key.clone()), reason.to_owned(), Some(key));
    }

    /// Adds an error because of which the value of the key `affected` is not known.
    pub(super) fn unusable(
        &mut self,
        origin: Origin,
        key: Option<String>,
        reason: String,
        affected: Option<String>,
    ) {
        self.unusable.extend(affected);
        self.add(origin, key, reason);
    }

    /// Adds a broken rule, unless it may be the consequence of an error that is added already.
    pub(super) fn violation(&mut self, origin: &Origin, violation: &Violation) {
        let Violation { key, reason } = violation;
        let explains = |unusable: &String| key == unusable || reason.contains(unusable.as_str());
        if !self.unusable.iter().any(explains) {
            self.add(origin.clone(), Some(key.clone()), reason.clone());
        }
    }

    /// Whether a whole layer is not known, so that rules can't be checked.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// All errors, if there are any.
    pub(super) fn finish(mut self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort_by_key(|error| error.origin.rank());
        Err(ConfigErrors(self.errors))
    }

    fn add(&mut self, origin: Origin, key: Option<String>, reason: String) {
        self.errors.push(ConfigError { origin, key, reason });
    }
}
