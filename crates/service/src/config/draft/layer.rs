//! The layers above the defaults: the TOML file and the environment, as keys with values and origins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::findings::Findings;
use crate::config::keys::{KeyKind, Keys};
use crate::config::origin::Origin;
use crate::config::settings::Settings;

/// A value that a layer gives to a key.
pub(super) struct LayerEntry {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl LayerEntry {
    /// The key with dots.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }
}

/// Reads the entries of a TOML file. A file with a syntax error has none.
pub(super) fn of_file(path: &Path, findings: &mut Findings) -> Vec<LayerEntry> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            findings.incomplete(Origin::file(path, None), format!("failed to read: {error}"));
            return Vec::new();
        }
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        let line = error.span().map(|span| line(&text, span.start));
        findings.incomplete(
            Origin::file(path, line),
            format!("failed to parse TOML: {}", error.message()),
        );
    }
    let mut entries = Vec::new();
    if errors.is_empty() {
        collect(&mut entries, &[], table.get_ref(), &|offset| {
            Origin::file(path, Some(line(&text, offset)))
        });
    }
    entries
}

fn collect(
    entries: &mut Vec<LayerEntry>,
    section: &[String],
    table: &DeTable<'_>,
    origin: &dyn Fn(usize) -> Origin,
) {
    for (name, value) in table {
        let path = [section, &[name.get_ref().clone().into_owned()]].concat();
        match value.get_ref() {
            DeValue::Table(table) => collect(entries, &path, table, origin),
            value => entries.push(LayerEntry {
                path,
                value: of_toml(value),
                origin: origin(name.span().start),
            }),
        }
    }
}

/// A number that is out of range stays a text, so that the setting it is for refuses it.
fn of_toml(value: &DeValue<'_>) -> Value {
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.clone().into_owned()),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or_else(|_| digits.to_string().into(), ValueKind::from),
        DeValue::Float(digits) => digits
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| digits.to_string().into(), ValueKind::from),
        DeValue::Boolean(value) => ValueKind::from(*value),
        DeValue::Datetime(value) => value.to_string().into(),
        DeValue::Array(items) => ValueKind::Array(items.iter().map(|item| of_toml(item.get_ref())).collect()),
        DeValue::Table(table) => {
            let entries = table
                .iter()
                .map(|(name, value)| (name.get_ref().clone().into_owned(), of_toml(value.get_ref())));
            ValueKind::Table(entries.collect())
        }
    };
    Value::new(None, kind)
}

/// The line of a byte offset, counted from 1.
fn line(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The entries of the environment: variables that begin with `<SERVICE>__`, in any case.
///
/// A variable that begins with `<SERVICE>_` and consists of the words of a known key is an error. Any other is ignored:
/// Kubernetes sets variables such as `<SERVICE>_PORT` for a Service of that name.
pub(super) fn of_environment<S: Settings>(
    variables: impl Iterator<Item = (OsString, OsString)>,
    keys: &Keys,
    findings: &mut Findings,
) -> Vec<LayerEntry> {
    let prefix = format!("{}_", S::SERVICE);
    let mut entries = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        let lower = name.to_lowercase();
        let Some(rest) = lower.strip_prefix(&prefix) else {
            continue;
        };
        let Some(rest) = rest.strip_prefix('_') else {
            if let Some(key) = keys.with_words(rest) {
                let meant = variable::<S>(&key);
                let reason = format!("unknown variable, did you mean {meant}?");
                findings.unusable(Origin::Variable(name), None, reason, Some(key));
            }
            continue;
        };
        let path: Vec<_> = rest.split("__").map(str::to_owned).collect();
        let origin = Origin::Variable(name);
        match value.into_string() {
            Ok(value) => entries.push(LayerEntry {
                path,
                value: Value::new(None, value),
                origin,
            }),
            Err(_) => findings.wrong(origin, path.join("."), "the value is not valid UTF-8"),
        }
    }
    entries
}

/// The variable that sets `key`.
fn variable<S: Settings>(key: &str) -> String {
    format!("{}__{}", S::SERVICE, key.replace('.', "__")).to_uppercase()
}

/// Keeps the entries of known keys. An entry that names a file is replaced by one with the file's content.
pub(super) fn resolve(entries: Vec<LayerEntry>, keys: &Keys, findings: &mut Findings) -> Vec<LayerEntry> {
    let mut resolved = BTreeMap::<String, (String, LayerEntry)>::new();
    for entry in entries {
        let given = entry.key();
        let Some(entry) = resolve_entry(entry, keys, findings) else {
            continue;
        };
        match resolved.get(&entry.key()) {
            None => {
                resolved.insert(entry.key(), (given, entry));
            }
            Some((other, first)) => {
                let reason = format!(
                    "{other} is also set, by {}; set only one of the two",
                    first.origin
                );
                findings.unusable(
                    entry.origin.setter().clone(),
                    Some(given),
                    reason,
                    Some(entry.key()),
                );
            }
        }
    }
    resolved.into_values().map(|(_, entry)| entry).collect()
}

fn resolve_entry(entry: LayerEntry, keys: &Keys, findings: &mut Findings) -> Option<LayerEntry> {
    let key = entry.key();
    match keys.find(&key) {
        KeyKind::Value => Some(entry),
        KeyKind::FileOf(base) => content(entry, base, findings),
        KeyKind::Section => {
            findings.wrong(entry.origin, key, "is a section of keys and takes no value");
            None
        }
        KeyKind::Unknown => {
            let nearest = keys.nearest(&key);
            let hint = nearest
                .as_ref()
                .map(|near| format!(", did you mean `{near}`?"))
                .unwrap_or_default();
            findings.unusable(entry.origin, Some(key), format!("unknown key{hint}"), nearest);
            None
        }
    }
}

fn content(mut entry: LayerEntry, base: String, findings: &mut Findings) -> Option<LayerEntry> {
    let key = entry.key();
    let Ok(named) = entry.value.into_string() else {
        findings.unusable(
            entry.origin,
            Some(key),
            "must be the path of a file".to_owned(),
            Some(base),
        );
        return None;
    };
    let path = PathBuf::from(named);
    match fs::read_to_string(&path) {
        Ok(content) => {
            if let Some(name) = entry.path.last_mut() {
                name.truncate(name.len() - "_file".len());
            }
            Some(LayerEntry {
                path: entry.path,
                value: Value::new(None, content.trim_end()),
                origin: Origin::Content {
                    path,
                    named_by: Box::new(entry.origin),
                },
            })
        }
        Err(error) => {
            let reason = format!("failed to read {}: {error}", path.display());
            findings.unusable(entry.origin, Some(key), reason, Some(base));
            None
        }
    }
}
