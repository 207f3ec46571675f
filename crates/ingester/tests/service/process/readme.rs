//! The README's tables match the code.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::CommandFactory as _;
use ingester::config::IngesterSettings;
use ingester::delivery::response::{RawResponse, ResponseError, parse_response};
use ingester::fetch::user_api::{FetchAction, FetchError};
use ingester::metrics::{IngesterMetrics, Upstream};
use ingester::transform::mapping::MappingError;
use model::FieldName;
use serde_json::Value;
use service::Metrics;
use testkit::readme_check;

const README: &str = include_str!("../../../README.md");

#[test]
fn readme_lists_every_setting_with_its_default() {
    let defaults = serde_json::to_value(IngesterSettings::default()).unwrap();
    assert_eq!(
        readme_check::table(README, "Configuration"),
        readme_check::keys(&defaults)
    );
}

#[test]
fn readme_lists_every_metric_with_its_labels() {
    let registry = Metrics::new("ingester");
    let metrics = IngesterMetrics::new(&registry);
    metrics.runs.with_label_values(&["complete"]).inc();
    metrics.request(Upstream::Source, "200", Duration::ZERO);
    metrics
        .retries
        .with_label_values(&[Upstream::Source.name()])
        .inc();
    metrics.record_mapping_error(&MappingError {
        field: FieldName::Known("email".into()),
        rule: "blank",
    });
    metrics
        .suspicious
        .with_label_values(&["replacement_character"])
        .inc();
    metrics.verdicts.with_label_values(&["conserved"]).inc();
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

/// Returns the cells of each row of the table with this header.
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

/// Returns the words of a command, up to its first argument.
fn command_of(cell: &str) -> String {
    let words = cell.trim_matches('`').split(' ').skip(1);
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
    words.take_while(is_name).collect::<Vec<_>>().join(" ")
}

/// Returns the commands without further subcommands.
fn leaves(command: &clap::Command, parent: &str) -> Vec<String> {
    let name = format!("{parent}{}", command.get_name());
    let nested: Vec<_> = command
        .get_subcommands()
        .flat_map(|nested| leaves(nested, &format!("{name} ")))
        .collect();
    if nested.is_empty() { vec![name] } else { nested }
}

#[test]
fn readme_lists_every_command() {
    let listed: BTreeSet<_> = rows("| command | description |")
        .iter()
        .map(|row| command_of(&row[0]))
        .collect();
    let command = ingester::Cli::command();
    let known = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .flat_map(|command| leaves(command, ""))
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn readme_lists_every_route() {
    let listed: BTreeSet<_> = rows("| request | response |")
        .iter()
        .map(|row| row[0].replace('`', ""))
        .collect();
    let described: Value = serde_json::from_str(include_str!("../../../src/api/openapi.json")).unwrap();
    let mut known = BTreeSet::from(["GET /".to_owned(), "GET /openapi.json".to_owned()]);
    for (path, item) in described["paths"].as_object().unwrap() {
        let methods = ["get", "post", "delete"]
            .into_iter()
            .filter(|method| item.get(method).is_some());
        known.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    assert_eq!(listed, known);
}

/// Returns the statuses in a cell; `5xx` stands for all that no other cell names.
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
fn readme_describes_each_response_of_the_api() {
    for row in rows("| API response | action |") {
        for status in statuses(&row[0]).into_iter().filter(|status| *status != 200) {
            let status = reqwest::StatusCode::from_u16(status).unwrap();
            let action = FetchError::Status {
                status,
                retry_after: None,
            }
            .action();
            let expected = match row[1].split(' ').next().unwrap() {
                "retried" => FetchAction::Retry(None),
                "waits" => FetchAction::RateLimited(None),
                other => panic!("{other}"),
            };
            assert_eq!(action, expected, "{status}");
        }
    }
    let other_status = reqwest::StatusCode::from_u16(410).unwrap();
    let error = FetchError::Status {
        status: other_status,
        retry_after: None,
    };
    assert_eq!(error.action(), FetchAction::Fail);
}

/// Returns the error of a problem document with this status.
fn problem_error(status: u16, kind: &str) -> ResponseError {
    let body = format!(r#"{{"type": "{kind}"}}"#);
    let response = RawResponse {
        status,
        content_type: Some("application/problem+json"),
        location: None,
        retry_after: None,
        body: body.as_bytes(),
    };
    parse_response(&response, 1).unwrap_err()
}

#[test]
fn readme_describes_each_response_of_the_publisher() {
    let kind = |status| match problem_error(status, "urn:affluent:problem:any") {
        ResponseError::Retryable { .. } => "retried with backoff",
        ResponseError::TooLarge => "split into halves",
        ResponseError::Unauthorized { .. } => "the process exits with 78",
        ResponseError::Permanent { .. } => "the run fails with the reason",
        error => panic!("{status}: {error}"),
    };
    let mut named = Vec::new();
    for row in rows("| publisher response | action |") {
        for status in statuses(&row[0])
            .into_iter()
            .filter(|status| *status >= 400 && *status != 422)
        {
            assert!(row[1].starts_with(kind(status)), "{status}: {}", row[1]);
            named.push(status);
        }
    }
    let unnamed = (400..600).filter(|status| *status < 500 || *status == 502);
    for status in unnamed.filter(|status| !named.contains(status)) {
        assert_eq!(kind(status), "the run fails with the reason", "{status}");
    }
    assert!(
        [408, 429, 503, 504, 413, 401, 403]
            .iter()
            .all(|status| named.contains(status))
    );
    for status in 200..600 {
        let error = problem_error(status, "about:blank");
        assert!(
            matches!(error, ResponseError::Foreign { .. }),
            "{status}: {error}"
        );
    }
}
