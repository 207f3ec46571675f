//! Puts the layers together: typed settings, the origin of each key, and every error on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use config::Value;
use serde_json::Value as Json;

use super::keys::Keys;
use super::layer::{self, Entry};
use super::tree::Tree;
use super::{ConfigErrors, Origin, Settings, Violations};
use crate::secret::REDACTED;

/// Settings whose errors are still being collected. A value with an error is replaced by that of the layer below.
pub(super) struct Draft<S> {
    settings: S,
    origins: BTreeMap<String, Origin>,
    keys: Keys,
    findings: Findings,
}

/// Valid settings, with the origin of each key that is not a default.
pub(super) struct Loaded<S> {
    pub(super) settings: S,
    pub(super) origins: BTreeMap<String, Origin>,
    pub(super) keys: Keys,
}

/// The errors so far.
#[derive(Default)]
pub(super) struct Findings {
    errors: ConfigErrors,
    /// Keys whose intended value is not known.
    unusable: BTreeSet<String>,
    /// Whether a whole layer is not known, so that rules can't be checked.
    is_incomplete: bool,
}

impl Findings {
    /// Adds an error that hides a whole layer.
    pub(super) fn incomplete(&mut self, origin: Origin, reason: String) {
        self.is_incomplete = true;
        self.errors.add(origin, None, reason);
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
        self.errors.add(origin, key, reason);
    }

    /// Whether a broken rule may be the consequence of an error that is reported already.
    fn explains(&self, key: &str, reason: &str) -> bool {
        self.unusable
            .iter()
            .any(|unusable| key == unusable || reason.contains(unusable.as_str()))
    }
}

impl<S: Settings> Draft<S> {
    /// Reads all layers.
    pub(super) fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
    ) -> Self {
        let defaults = json(&S::default());
        let keys = Keys::of(&defaults);
        let defaults = Tree::of_defaults(&defaults);
        let mut findings = Findings::default();
        let in_file = file.map(|path| layer::of_file(path, &mut findings));
        let in_file = layer::resolve(in_file.unwrap_or_default(), &keys, &mut findings);
        let variables = environment
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let in_environment = layer::of_environment::<S>(variables, &keys, &mut findings);
        let in_environment = layer::resolve(in_environment, &keys, &mut findings);

        let (mut tree, mut origins) = (defaults.clone(), BTreeMap::new());
        for entry in in_file.into_iter().chain(in_environment) {
            let key = entry.key();
            if let Err(reason) = check_entry::<S>(&defaults, &entry, keys.is_in_map(&key)) {
                findings.wrong(entry.origin, key, &reason);
                continue;
            }
            tree.insert(&entry.path, entry.value);
            origins.insert(key, entry.origin);
        }
        let settings = tree.deserialize().unwrap_or_else(|error| {
            findings.incomplete(
                Origin::Default,
                format!("failed to combine the settings: {error}"),
            );
            S::default()
        });
        Self {
            settings,
            origins,
            keys,
            findings,
        }
    }

    /// Runs `rules` and adds each violation, except those that an earlier error explains.
    pub(super) fn check(&mut self, rules: impl FnOnce(&S) -> Violations) {
        if self.findings.is_incomplete {
            return;
        }
        for violation in rules(&self.settings).iter() {
            let (key, reason) = (&violation.key, &violation.reason);
            if !self.findings.explains(key, reason) {
                let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
                self.findings
                    .errors
                    .add(origin, Some(key.clone()), reason.as_str());
            }
        }
    }

    /// The settings, if no error was found.
    pub(super) fn finish(self) -> Result<Loaded<S>, ConfigErrors> {
        let mut errors = self.findings.errors;
        if !errors.0.is_empty() {
            errors.0.sort_by_key(|error| error.origin.rank());
            return Err(errors);
        }
        Ok(Loaded {
            settings: self.settings,
            origins: self.origins,
            keys: self.keys,
        })
    }
}

pub(super) fn json<S: Settings>(settings: &S) -> Json {
    serde_json::to_value(settings).expect("settings are plain data, which JSON can hold")
}

/// Deserializes one entry over the defaults, so that each wrong value is reported with its own key.
fn check_entry<S: Settings>(defaults: &Tree, entry: &Entry, is_in_map: bool) -> Result<(), String> {
    let with = |value: Value| {
        let mut tree = defaults.clone();
        tree.insert(&entry.path, value);
        tree.deserialize::<S>()
    };
    let Err(error) = with(entry.value.clone()) else {
        return Ok(());
    };
    let pointer = format!("/{}", entry.path.join("/"));
    // Only a secret is shown as redacted when it is serialized.
    let probe = with(Value::new(None, "probe")).ok();
    let is_secret = probe.is_some_and(|probe| {
        json(&probe)
            .pointer(&pointer)
            .is_some_and(|value| value == REDACTED)
    });
    if is_secret || is_in_map {
        return Err("must be a text in quotes".to_owned());
    }
    Err(match innermost(error) {
        config::ConfigError::Type {
            unexpected, expected, ..
        } => format!("expected {expected}, found {unexpected}"),
        other => unknown_variant::<S>(entry).unwrap_or_else(|| {
            let text = other.to_string();
            let text = text.strip_prefix("invalid value: ").unwrap_or(&text);
            format!("invalid value: {text}{}", example::<S>(&pointer))
        }),
    })
}

fn innermost(error: config::ConfigError) -> config::ConfigError {
    match error {
        config::ConfigError::At { error, .. } => innermost(*error),
        other => other,
    }
}

/// `config` does not list the variants of an enum in its error; JSON does.
fn unknown_variant<S: Settings>(entry: &Entry) -> Option<String> {
    let text = entry.value.clone().into_string().ok()?;
    let nested = entry
        .path
        .iter()
        .rev()
        .fold(Json::from(text), |value, name| serde_json::json!({ name: value }));
    let error = serde_json::from_value::<S>(nested).err()?.to_string();
    error.starts_with("unknown variant").then_some(error)
}

/// The default of a text, which shows the format of durations and sizes.
fn example<S: Settings>(pointer: &str) -> String {
    match json(&S::default()).pointer(pointer) {
        Some(Json::String(default)) => format!(" (the default is {default:?})"),
        _ => String::new(),
    }
}
