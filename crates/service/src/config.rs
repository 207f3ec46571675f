//! Layered configuration: defaults, then a TOML file, then the environment.
//!
//! The keys that exist are those of the settings' own default value, so a key that nobody reads is
//! an error that names it and the nearest one that is known. Nothing here validates what the values mean.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::{Config, Environment, File, FileFormat, Map, Source, ValueKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::process::{EXIT_CONFIG, exit_with_error};

/// The options that every binary has.
#[derive(Clone, Debug, clap::Args)]
pub struct CommandLine {
    /// TOML file with settings; the environment goes over it
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Check the configuration and exit: 0 when it is good, 78 when it is not
    #[arg(long, global = true)]
    pub check_config: bool,
}

/// The settings of one service.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// The service's name: the prefix of its environment variables, in upper case, followed by `__`.
    const SERVICE: &'static str;

    /// Refuses values that parse but make no sense, alone or together.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], naming the key.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file, or a file that a `…_file` key names, can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("parse the configuration")]
    Parse(#[source] config::ConfigError),
    /// A key that nothing reads.
    #[error("unknown key `{key}`{}", nearest.as_ref().map(|near| format!(", did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// The key as given, with dots.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value that parses but makes no sense.
    #[error("`{key}` {reason}")]
    Invalid {
        /// The key, with dots.
        key: &'static str,
        /// What is wrong with its value, without quoting it.
        reason: String,
    },
}

impl CommandLine {
    /// Reads the settings from the file named on the command line and from this process's environment.
    ///
    /// # Errors
    /// The exit code to end with: 78 after printing what is wrong, or 0 after `--check-config`.
    pub fn settings<S: Settings>(&self) -> Result<S, ExitCode> {
        let settings = load::<S>(self.config.as_deref(), std::env::vars())
            .map_err(|error| exit_with_error(S::SERVICE, &error, EXIT_CONFIG))?;
        if self.check_config {
            println!("{}: the configuration is valid", S::SERVICE);
            return Err(ExitCode::SUCCESS);
        }
        Ok(settings)
    }
}

/// Reads settings from `file` and from `environment` (name and value pairs, of which those that
/// begin with `<SERVICE>__` count; `__` also separates the levels of a key).
///
/// A key with `_file` behind it gives the path of a file that holds the value.
///
/// # Errors
/// Each [`ConfigError`].
pub fn load<S: Settings>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<S, ConfigError> {
    let defaults = serde_json::to_value(S::default()).expect("settings are plain data, which JSON can hold");
    let known = Keys::of(&defaults);
    let mut given = Config::builder();
    if let Some(path) = file {
        given = given.add_source(File::from_str(&read(path)?, FileFormat::Toml));
    }
    let variables: Map<_, _> = environment.into_iter().collect();
    given = given.add_source(
        Environment::with_prefix(S::SERVICE)
            .prefix_separator("__")
            .separator("__")
            .source(Some(variables)),
    );
    let given = given.build().map_err(ConfigError::Parse)?;
    let mut kept = Kept(given.collect().map_err(ConfigError::Parse)?);
    let given: Value = given.try_deserialize().map_err(ConfigError::Parse)?;
    let mut settings = Config::builder();
    for (key, value) in scalars(&defaults) {
        settings = settings.set_default(key, value).map_err(ConfigError::Parse)?;
    }
    for (key, value) in leaves(&given) {
        match known.find(&key) {
            Known::Value => {}
            Known::FileOf(base) => {
                let path = PathBuf::from(text(value));
                let content = read(&path)?;
                settings = settings
                    .set_override(base, content.trim_end())
                    .map_err(ConfigError::Parse)?;
                kept.remove(&key);
            }
            Known::Nothing => return Err(known.unknown(key)),
        }
    }
    let settings = settings.add_source(kept).build().map_err(ConfigError::Parse)?;
    let settings: S = settings.try_deserialize().map_err(ConfigError::Parse)?;
    settings.validate()?;
    Ok(settings)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// What was given, without the keys that name a file: a map would keep them beside those that the files are for.
#[derive(Clone, Debug)]
struct Kept(Map<String, config::Value>);

impl Kept {
    fn remove(&mut self, key: &str) {
        fn remove(entries: &mut Map<String, config::Value>, key: &str) {
            if entries.remove(key).is_some() {
                return;
            }
            for (name, value) in entries {
                let below = key
                    .strip_prefix(name.as_str())
                    .and_then(|rest| rest.strip_prefix('.'));
                if let (ValueKind::Table(entries), Some(key)) = (&mut value.kind, below) {
                    remove(entries, key);
                }
            }
        }
        remove(&mut self.0, key);
    }
}

impl Source for Kept {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The keys that a service knows: the leaves of its default settings. An empty map among the
/// defaults takes any key below it.
struct Keys {
    values: BTreeSet<String>,
    maps: BTreeSet<String>,
}

enum Known {
    Value,
    FileOf(String),
    Nothing,
}

impl Keys {
    fn of(defaults: &Value) -> Self {
        let mut keys = Self {
            values: BTreeSet::new(),
            maps: BTreeSet::new(),
        };
        keys.collect(String::new(), defaults);
        keys
    }

    fn collect(&mut self, path: String, value: &Value) {
        match value {
            Value::Object(entries) if entries.is_empty() => {
                self.maps.insert(path);
            }
            Value::Object(entries) => {
                for (name, value) in entries {
                    self.collect(join(&path, name), value);
                }
            }
            _ => {
                self.values.insert(path);
            }
        }
    }

    fn find(&self, key: &str) -> Known {
        if self.values.contains(key) {
            return Known::Value;
        }
        match key.strip_suffix("_file") {
            Some(base) if self.accepts(base) => Known::FileOf(base.to_owned()),
            _ if self.accepts(key) => Known::Value,
            _ => Known::Nothing,
        }
    }

    fn accepts(&self, key: &str) -> bool {
        self.values.contains(key)
            || self.maps.iter().any(|map| {
                key.strip_prefix(map.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            })
    }

    fn unknown(&self, key: String) -> ConfigError {
        let nearest = self
            .values
            .iter()
            .chain(&self.maps)
            .map(|known| (strsim::normalized_damerau_levenshtein(&key, known), known))
            .filter(|(similarity, _)| *similarity > 0.4)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known.clone());
        ConfigError::Unknown { key, nearest }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The defaults that a section keeps when only another key of it is given: those of the service, which differ from those
/// of the section's type where services or sections share one. Lists, and what is not set, are left to the type.
fn scalars(defaults: &Value) -> impl Iterator<Item = (String, String)> {
    let single = |value: &Value| !(value.is_null() || value.is_array());
    leaves(defaults)
        .filter(move |(_, value)| single(value))
        .map(|(key, value)| (key, text(value)))
}

/// Every key of `tree` that holds a value, with that value.
fn leaves(tree: &Value) -> impl Iterator<Item = (String, &Value)> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), tree)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(entries) => {
                open.extend(entries.iter().map(|(name, value)| (join(&path, name), value)));
            }
            other => found.push((path, other)),
        }
    }
    found.into_iter()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

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
        #[serde(untagged)]
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
            Given::Items(items) => items,
        }))
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
