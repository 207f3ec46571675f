//! Holds a service's README against its code: the tables of configuration keys and of metrics.

use std::collections::BTreeMap;

use serde_json::Value;

/// The rows of the table under `## heading`: the first cell's code and the second cell's.
///
/// # Panics
/// When there is no such heading, or a row of fewer than two cells: the manual is at fault.
pub fn table(manual: &str, heading: &str) -> BTreeMap<String, String> {
    let section = manual
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .expect("the manual has this heading");
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

/// Every configuration key of default settings with its value as the manuals write it.
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

/// The names of `service`'s own metrics in Prometheus' text format.
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
