//! The README's tables against the code.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use publisher::PublisherSettings;
use publisher::metrics::PublisherMetrics;
use service::Metrics;
use testkit::readme_check::{self, keys, table};
use uuid::Uuid;

use crate::running::{answer, ready};

const MANUAL: &str = include_str!("../../README.md");

#[test]
fn every_key_is_in_the_manual_with_its_default() {
    let defaults = serde_json::to_value(PublisherSettings::default()).unwrap();
    assert_eq!(table(MANUAL, "Configuration"), keys(&defaults));
}

#[test]
fn every_metric_is_in_the_manual() {
    let metrics = Metrics::new("publisher");
    let created = PublisherMetrics::new(&metrics);
    // The status is the one label whose values are not all known before the first request.
    created.request_answered("200");
    let told: Vec<_> = table(MANUAL, "Metrics")
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(told, readme_check::metrics(&metrics.render(), "publisher"));
}

/// The first cells of all rows of the table under a heading.
fn first_cells(heading: &str) -> Vec<String> {
    let section = MANUAL.split(&format!("\n## {heading}\n")).nth(1).unwrap();
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

/// Every problem in the sources, with its status.
fn problems() -> BTreeMap<String, String> {
    const SOURCES: [&str; 2] = [
        include_str!("../../src/problem/kinds.rs"),
        include_str!("../../src/problem/causes.rs"),
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
fn every_problem_is_in_the_manual_with_its_status() {
    assert_eq!(table(MANUAL, "Problems"), problems());
}

#[test]
fn every_status_is_in_the_manual() {
    let told = first_cells("Answers");
    let told: BTreeSet<u16> = told.iter().flat_map(|cell| statuses(cell)).collect();
    let mut given: BTreeSet<u16> = problems().values().flat_map(|status| statuses(status)).collect();
    given.extend([200, 204, 207, 422]);
    assert_eq!(told, given);
}

#[tokio::test]
async fn every_route_of_the_manual_is_there_and_the_manual_knows_all() {
    let (publisher, _) = ready().await;
    let mut told = BTreeSet::new();
    for cell in first_cells("Routes") {
        for route in cell.split('`').filter(|part| part.contains('/')) {
            let (method, path) = route.rsplit_once(' ').unwrap_or(("GET", route));
            told.insert(path.to_owned());
            let admin = ["/healthz", "/readyz", "/metrics"].contains(&path);
            let server = if admin { &publisher.admin } else { &publisher.url };
            let path = path.replace("{id}", &Uuid::new_v4().to_string());
            let request = publisher
                .client
                .request(method.parse().unwrap(), format!("{server}{path}"));
            let (status, _) = answer(request).await;
            assert!(!matches!(status, 404 | 405), "{route}: {status}");
        }
    }
    let openapi = publisher.client.get(format!("{}/openapi.json", publisher.url));
    let (_, openapi) = answer(openapi).await;
    for path in openapi["paths"].as_object().unwrap().keys() {
        assert!(told.contains(path), "{path}");
    }
}
