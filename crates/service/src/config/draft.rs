//! Puts the layers together: typed settings, the origin of each key, and every error on the way.

mod findings;
mod layer;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use config::Value;
use serde_json::Value as Json;

use self::findings::Findings;
use self::layer::LayerEntry;
use super::error::{ConfigErrors, Violations};
use super::keys::Keys;
use super::origin::Origin;
use super::settings::Settings;
use super::tree::Tree;
use super::value::secret::REDACTED;

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
            let is_in_map = keys.is_in_map(&key);
            let checked = check_entry::<S>(&defaults, &entry, is_in_map);
            let checked = checked.and_then(|()| {
                if is_in_map {
                    Ok(())
                } else {
                    check_value::<S>(&key, &entry)
                }
            });
            if let Err(reason) = checked {
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

    /// Adds each violation of `rules`, except those that an earlier error explains.
    pub(super) fn check(&mut self, rules: impl FnOnce(&S) -> Violations) {
        if self.findings.is_incomplete() {
            return;
        }
        for violation in rules(&self.settings).iter() {
            let origin = self.origins.get(&violation.key).unwrap_or(&Origin::Default);
            self.findings.violation(origin, violation);
        }
    }

    /// The settings, if no error was found.
    pub(super) fn finish(self) -> Result<Loaded<S>, ConfigErrors> {
        self.findings.finish()?;
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
fn check_entry<S: Settings>(defaults: &Tree, entry: &LayerEntry, is_in_map: bool) -> Result<(), String> {
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

/// The rules of values that hold for every key, so that no setting can miss them.
fn check_value<S: Settings>(key: &str, entry: &LayerEntry) -> Result<(), String> {
    let text = entry.value.clone().into_string().unwrap_or_default();
    let is_text = matches!(entry.value.kind, config::ValueKind::String(_));
    if is_text && text.trim().is_empty() {
        return Err("must not be empty; leave it out for the default".to_owned());
    }
    let is_zero = text
        .parse()
        .is_ok_and(|duration: jiff::SignedDuration| duration.is_zero());
    if is_text && is_zero && !S::MAY_BE_ZERO.contains(&key) {
        return Err("must be above zero".to_owned());
    }
    Ok(())
}

fn innermost(error: config::ConfigError) -> config::ConfigError {
    match error {
        config::ConfigError::At { error, .. } => innermost(*error),
        other => other,
    }
}

/// `config` does not list the variants of an enum in its error; JSON does.
fn unknown_variant<S: Settings>(entry: &LayerEntry) -> Option<String> {
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
