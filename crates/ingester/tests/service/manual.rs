//! The README's tables say what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ingester::format::Unfit;
use ingester::metrics::{IngesterMetrics, Leg};
use ingester::settings::IngesterSettings;
use model::Field;
use serde_json::Value;
use service::Metrics;

const README: &str = include_str!("../../README.md");

/// The first two cells of each row below a heading, without their backticks.
fn table(heading: &str) -> BTreeMap<String, String> {
    let section = README
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cell = |row: &str, index: usize| row.split('|').nth(index).unwrap().trim().replace('`', "");
    rows.map(|row| (cell(row, 1), cell(row, 2))).collect()
}

fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(&path, value, found);
            }
        }
        Value::Null => drop(found.insert(path.to_owned(), "none".to_owned())),
        Value::String(text) => drop(found.insert(path.to_owned(), text.clone())),
        other => drop(found.insert(path.to_owned(), other.to_string())),
    }
}

#[test]
fn the_manual_lists_every_setting_with_its_default() {
    let mut settings = BTreeMap::new();
    leaves(
        "",
        &serde_json::to_value(IngesterSettings::default()).unwrap(),
        &mut settings,
    );
    assert_eq!(table("Configuration"), settings);
}

#[test]
fn the_manual_lists_every_metric_with_its_labels() {
    let registry = Metrics::new("ingester");
    let metrics = IngesterMetrics::new(&registry);
    metrics.runs.with_label_values(&["complete"]).inc();
    metrics.request(Leg::Source, "200", Duration::ZERO);
    metrics.retries.with_label_values(&[Leg::Source.name()]).inc();
    metrics.unfit(Unfit {
        field: Field::Email,
        rule: "blank",
    });
    let text = registry.render();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: BTreeSet<_> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let manual = table("Metrics");
    let listed: BTreeSet<_> = manual
        .keys()
        .map(String::as_str)
        .chain(["ingester_build_info"])
        .collect();
    let ours: BTreeSet<_> = names
        .into_iter()
        .filter(|name| name.starts_with("ingester_"))
        .collect();
    assert_eq!(listed, ours);
    for (name, labels) in &manual {
        for label in labels.split(", ").filter(|label| !label.is_empty()) {
            let series = text
                .lines()
                .find(|line| line.starts_with(name.as_str()) && line.contains('{'));
            assert!(series.unwrap().contains(&format!("{label}=")), "{name} {label}");
        }
    }
}
