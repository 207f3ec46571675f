//! Checks a service's README against its code: the tables of settings and of metrics.

use std::collections::BTreeMap;

use serde_json::Value;

/// Returns the first two cells of each row of the table under `## heading`.
///
/// # Panics
/// When the heading is missing or a row has fewer than two cells.
pub fn table(readme: &str, heading: &str) -> BTreeMap<String, String> {
    let section = readme
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .expect("the README has this heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cell = |row: &str, index: usize| {
        row.split('|')
            .nth(index)
            .expect("a row has two cells")
            .trim()
            .replace('`', "")
    };
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| (cell(row, 1), cell(row, 2)))
        .collect()
}

/// Returns every setting with its default, as READMEs write it.
pub fn keys(defaults: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), defaults)];
    while let Some((path, value)) = open.pop() {
        let shown = match value {
            Value::Object(entries) if !entries.is_empty() => {
                let dot = if path.is_empty() { "" } else { "." };
                open.extend(
                    entries
                        .iter()
                        .map(|(name, value)| (format!("{path}{dot}{name}"), value)),
                );
                continue;
            }
            Value::Object(_) | Value::Null => "none".to_owned(),
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().unwrap_or_default())
                .collect::<Vec<_>>()
                .join(","),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        found.insert(path, shown);
    }
    found
}

/// Returns the names of `service`'s own metrics in Prometheus' text format.
pub fn metrics(text: &str, service: &str) -> Vec<String> {
    let help = format!("# HELP {service}_");
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(&help)?.split(' ').next())
        .map(|name| format!("{service}_{name}"))
        .collect();
    names.sort();
    names
}
