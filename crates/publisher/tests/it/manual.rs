//! The README's tables against the code.

use std::collections::BTreeMap;

use publisher::PublisherSettings;
use publisher::metrics::PublisherMetrics;
use serde_json::Value;
use service::Metrics;

const MANUAL: &str = include_str!("../../README.md");

/// The rows of the table under a heading: the first cell's code and the second cell.
fn table(heading: &str) -> BTreeMap<String, String> {
    let section = MANUAL.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned());
        (cells.nth(1).unwrap(), cells.next().unwrap())
    })
    .collect()
}

fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (name, value) in entries {
                leaves(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Object(_) | Value::Null => {
            found.insert(path[1..].to_owned(), "none".to_owned());
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| item.as_str().unwrap()).collect();
            let shown = if items.is_empty() {
                "none".to_owned()
            } else {
                items.join(",")
            };
            found.insert(path[1..].to_owned(), shown);
        }
        Value::String(text) => {
            found.insert(path[1..].to_owned(), text.clone());
        }
        other => {
            found.insert(path[1..].to_owned(), other.to_string());
        }
    }
}

#[test]
fn every_key_is_in_the_manual_with_its_default() {
    let defaults = serde_json::to_value(PublisherSettings::default()).unwrap();
    let mut keys = BTreeMap::new();
    leaves("", &defaults, &mut keys);
    assert_eq!(table("Configuration"), keys);
}

#[test]
fn every_metric_is_in_the_manual() {
    let metrics = Metrics::new("publisher");
    let created = PublisherMetrics::new(&metrics);
    // The status is the one label whose values are not all known before the first request.
    created.request_answered("200");
    let text = metrics.render();
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP publisher_")?.split(' ').next())
        .map(|name| format!("publisher_{name}"))
        .collect();
    names.sort();
    let told: Vec<_> = table("Metrics")
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(told, names);
}
