//! Checks the README's tables against the code.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use publisher::PublisherSettings;
use publisher::metrics::PublisherMetrics;
use service::Metrics;
use testkit::readme_check::{self, keys, table};
use uuid::Uuid;

use crate::support::publisher_process::{ready, status_and_body};

const README: &str = include_str!("../../../README.md");

#[test]
fn readme_lists_every_key_with_its_default() {
    let defaults = serde_json::to_value(PublisherSettings::default()).unwrap();
    assert_eq!(table(README, "Configuration"), keys(&defaults));
}

#[test]
fn readme_lists_every_metric() {
    let metrics = Metrics::new("publisher");
    let created = PublisherMetrics::new(&metrics);
    // The status is the only label without initial values.
    created.count_request("200");
    let listed: Vec<_> = table(README, "Metrics")
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(listed, readme_check::metrics(&metrics.render(), "publisher"));
}

/// The first cell of each row of the table under a heading.
fn first_cells(heading: &str) -> Vec<String> {
    let section = README.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|row| row.split('|').nth(1).map(|cell| cell.trim().to_owned()))
        .collect()
}

/// The numbers from 200 to 599 in a text.
fn statuses(text: &str) -> BTreeSet<u16> {
    let words = text.split(|character: char| !character.is_ascii_digit());
    let numbers = words.filter_map(|word| word.parse().ok());
    numbers.filter(|number| (200..600).contains(number)).collect()
}

/// Every problem type in the source code, with its status.
fn problems() -> BTreeMap<String, String> {
    const SOURCES: [&str; 2] = [
        include_str!("../../../src/http/problem/kinds.rs"),
        include_str!("../../../src/http/problem/conversions.rs"),
    ];
    let statuses: BTreeMap<String, u16> = (200..600)
        .filter_map(|number| {
            let reason = StatusCode::from_u16(number).ok()?.canonical_reason()?;
            Some((reason.to_uppercase().replace(' ', "_"), number))
        })
        .collect();
    let created = SOURCES
        .iter()
        .flat_map(|source| source.split("Self::new(").skip(1));
    created
        .map(|arguments| {
            let status = arguments.split("StatusCode::").nth(1).unwrap();
            let status = status.split(',').next().unwrap();
            let name = arguments.split('"').nth(1).unwrap();
            (name.to_owned(), statuses[status].to_string())
        })
        .collect()
}

#[test]
fn readme_lists_every_problem_with_its_status() {
    assert_eq!(table(README, "Problems"), problems());
}

#[test]
fn readme_lists_every_status() {
    let listed = first_cells("Responses");
    let listed: BTreeSet<u16> = listed.iter().flat_map(|cell| statuses(cell)).collect();
    let mut used: BTreeSet<u16> = problems().values().flat_map(|status| statuses(status)).collect();
    used.extend([200, 204, 207, 422]);
    assert_eq!(listed, used);
}

#[tokio::test]
async fn readme_lists_exactly_the_existing_routes() {
    let (publisher, _) = ready().await;
    let mut listed = BTreeSet::new();
    for cell in first_cells("Routes") {
        for route in cell.split('`').filter(|part| part.contains('/')) {
            let (method, path) = route.rsplit_once(' ').unwrap_or(("GET", route));
            let path = &path.replace("{resource}", "users").replace("{key}", "{id}");
            listed.insert(path.clone());
            let admin = ["/healthz", "/readyz", "/metrics", "/status"].contains(&path.as_str());
            let server = if admin { &publisher.admin } else { &publisher.url };
            let path = path.replace("{id}", &Uuid::new_v4().to_string());
            let request = publisher
                .client
                .request(method.parse().unwrap(), format!("{server}{path}"));
            let (status, _) = status_and_body(request).await;
            assert!(!matches!(status, 404 | 405), "{route}: {status}");
        }
    }
    let openapi = publisher.client.get(format!("{}/openapi.json", publisher.url));
    let (_, openapi) = status_and_body(openapi).await;
    for path in openapi["paths"].as_object().unwrap().keys() {
        assert!(listed.contains(path), "{path}");
    }
}
