//! The README's tables say what the code does.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::CommandFactory as _;
use ingester::config::IngesterSettings;
use ingester::delivery::response::{ResponseError, parse_response};
use ingester::fetch::user_api::{FetchAction, FetchError};
use ingester::metrics::{IngesterMetrics, Upstream};
use ingester::transform::mapping::MappingError;
use model::Field;
use serde_json::Value;
use service::Metrics;
use testkit::readme_check;

const README: &str = include_str!("../../README.md");

#[test]
fn the_manual_lists_every_setting_with_its_default() {
    let defaults = serde_json::to_value(IngesterSettings::default()).unwrap();
    assert_eq!(
        readme_check::table(README, "Configuration"),
        readme_check::keys(&defaults)
    );
}

#[test]
fn the_manual_lists_every_metric_with_its_labels() {
    let registry = Metrics::new("ingester");
    let metrics = IngesterMetrics::new(&registry);
    metrics.runs.with_label_values(&["complete"]).inc();
    metrics.request(Upstream::Source, "200", Duration::ZERO);
    metrics
        .retries
        .with_label_values(&[Upstream::Source.name()])
        .inc();
    metrics.record_mapping_error(MappingError {
        field: Field::Email,
        rule: "blank",
    });
    let text = registry.render();
    let listed = readme_check::table(README, "Metrics");
    let ours: Vec<_> = readme_check::metrics(&text, "ingester")
        .into_iter()
        .filter(|name| name != "ingester_build_info")
        .collect();
    assert_eq!(listed.keys().cloned().collect::<Vec<_>>(), ours);
    for (name, labels) in &listed {
        for label in labels.split(", ").filter(|label| !label.is_empty()) {
            let series = text
                .lines()
                .find(|line| line.starts_with(name.as_str()) && line.contains('{'));
            assert!(series.unwrap().contains(&format!("{label}=")), "{name} {label}");
        }
    }
}

/// The rows of the table whose heading begins so, each as its cells.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let table = README
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

#[test]
fn the_manual_lists_every_command() {
    let listed: BTreeSet<_> = rows("| command | what it does |")
        .iter()
        .map(|row| row[0].trim_matches('`').split(' ').nth(1).unwrap().to_owned())
        .collect();
    let command = ingester::Cli::command();
    let known: BTreeSet<_> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_manual_lists_every_route() {
    let listed: BTreeSet<_> = rows("| request | answer |")
        .iter()
        .map(|row| row[0].replace('`', ""))
        .collect();
    let described: Value = serde_json::from_str(include_str!("../../src/api/openapi.json")).unwrap();
    let mut known = BTreeSet::from(["GET /".to_owned(), "GET /openapi.json".to_owned()]);
    for (path, item) in described["paths"].as_object().unwrap() {
        let methods = ["get", "post", "delete"]
            .into_iter()
            .filter(|method| item.get(method).is_some());
        known.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    assert_eq!(listed, known);
}

/// The statuses that a cell names; `5xx` is all of them that no other cell names.
fn statuses(cell: &str) -> Vec<u16> {
    let words = cell.split(|c: char| !c.is_ascii_alphanumeric());
    let named: Vec<u16> = words.clone().filter_map(|word| word.parse().ok()).collect();
    if words.into_iter().any(|word| word == "5xx") {
        return named
            .into_iter()
            .filter(|status| *status < 500)
            .chain([500, 501, 503, 504, 505, 599])
            .collect();
    }
    named
}

#[test]
fn the_manual_says_what_each_answer_of_the_api_leads_to() {
    for row in rows("| from the API | then |") {
        for status in statuses(&row[0]).into_iter().filter(|status| *status != 200) {
            let status = reqwest::StatusCode::from_u16(status).unwrap();
            let action = FetchError::Status {
                status,
                retry_after: None,
            }
            .action();
            let expected = match row[1].split(' ').next().unwrap() {
                "asked" => FetchAction::Retry(None),
                "waits" => FetchAction::RateLimited(None),
                other => panic!("{other}"),
            };
            assert_eq!(action, expected, "{status}");
        }
    }
    let any_other = reqwest::StatusCode::from_u16(410).unwrap();
    let error = FetchError::Status {
        status: any_other,
        retry_after: None,
    };
    assert_eq!(error.action(), FetchAction::Fail);
}

#[test]
fn the_manual_says_what_each_answer_of_the_publisher_leads_to() {
    let kind = |status| match parse_response(status, None, b"{}", 1).unwrap_err() {
        ResponseError::Retryable { .. } => "sent again after a back-off",
        ResponseError::TooLarge => "sent in two halves",
        ResponseError::Unauthorized { .. } => "the process ends with 78",
        ResponseError::Permanent { .. } => "the run fails with the reason",
        ResponseError::Invalid { .. } => "done",
    };
    let mut named = Vec::new();
    for row in rows("| from the publisher | then |") {
        for status in statuses(&row[0]) {
            assert!(row[1].starts_with(kind(status)), "{status}: {}", row[1]);
            named.push(status);
        }
    }
    let unnamed = (400..600).filter(|status| *status < 500 || *status == 502);
    for status in unnamed.filter(|status| !named.contains(status)) {
        assert_eq!(kind(status), "the run fails with the reason", "{status}");
    }
    assert!(
        [200, 207, 422, 408, 429, 503, 504, 413, 401, 403]
            .iter()
            .all(|status| named.contains(status))
    );
}
