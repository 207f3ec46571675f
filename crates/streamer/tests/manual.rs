//! Checks the README against the code.

#![expect(clippy::unwrap_used, reason = "an unexpected error fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::net::SocketAddr;
use std::path::Path;

use cdrs_tokio::Error;
use cdrs_tokio::frame::message_error::ErrorBody;
use cdrs_tokio::frame::{FromCursor as _, Version};
use service::Metrics;
use streamer::Settings;
use streamer::cassandra::error_class::ErrorClass;
use streamer::metrics::StreamerMetrics;
use testkit::readme_check;

const README: &str = include_str!("../README.md");

#[test]
fn readme_lists_every_setting_with_its_default() {
    let keys = readme_check::keys(&serde_json::to_value(Settings::default()).unwrap());
    assert_eq!(readme_check::table(README, "Configuration"), keys);
}

#[test]
fn readme_lists_every_metric() {
    let metrics = Metrics::new("streamer");
    let created = StreamerMetrics::new(&metrics);
    for counters in [
        &created.rows,
        &created.dead_letters,
        &created.mismatch,
        &created.batches,
        &created.retries,
        &created.checkpoints,
        &created.rebalances,
        &created.restarts,
    ] {
        counters.with_label_values(&["any"]);
    }
    created.checkpoint_age.with_label_values(&["0"]);
    for gauges in [
        &created.checkpoint_offset,
        &created.end_offset,
        &created.lag,
        &created.open_transaction,
    ] {
        gauges.with_label_values(&["0"]);
    }
    let documented: Vec<_> = readme_check::table(README, "Metrics")
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(documented, readme_check::metrics(&metrics.render(), "streamer"));
}

/// Returns the table row of an error class: label and reaction.
fn documented(class: &ErrorClass) -> (String, String) {
    let reaction = match class {
        ErrorClass::Retry { overload: true, .. } => "retry the rows, halve the statements in flight",
        ErrorClass::Retry { .. } => "retry the rows",
        ErrorClass::Reconnect { .. } => "new session, write the whole micro-batch again",
        ErrorClass::Invalid(_) => {
            "split down to the row, verify the table, probe it, send the row to the dead letters"
        }
        ErrorClass::Fatal(_) => "exit 78 with the server's message",
    };
    (class.label().to_owned(), reaction.to_owned())
}

/// Returns an error of every code of the native protocol, with an empty message and a body of zeros.
fn server_errors() -> Vec<Error> {
    let codes = [
        0x0000, 0x000a, 0x0100, 0x1000, 0x1001, 0x1002, 0x1003, 0x1100, 0x1200, 0x1300, 0x1400, 0x1500,
        0x2000, 0x2100, 0x2200, 0x2300, 0x2400, 0x2500_i32,
    ];
    codes
        .iter()
        .map(|code| {
            let bytes = [code.to_be_bytes().as_slice(), &[0; 64]].concat();
            let body = ErrorBody::from_cursor(&mut Cursor::new(&bytes), Version::V4).unwrap();
            let addr = SocketAddr::from(([127, 0, 0, 1], 9042));
            Error::Server { body, addr }
        })
        .collect()
}

#[test]
fn readme_lists_every_cassandra_error() {
    let driver_errors = [
        Error::Io(std::io::ErrorKind::BrokenPipe.into()),
        Error::Timeout(String::new()),
        Error::General(String::new()),
    ];
    // The driver does not report unknown codes, so this class is added here.
    let unlisted = ErrorClass::Retry {
        label: "unlisted",
        overload: false,
    };
    // This one depends on the message.
    let authorization = ErrorClass::Retry {
        label: "authorization",
        overload: false,
    };
    let expected: BTreeMap<_, _> = server_errors()
        .iter()
        .chain(&driver_errors)
        .map(ErrorClass::classify)
        .chain([unlisted, authorization])
        .map(|class| documented(&class))
        .collect();
    assert_eq!(readme_check::table(README, "Cassandra errors"), expected);
}

/// Collects the names of the tests in the Rust files of a folder and its subfolders.
fn tests_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let after_attributes = text.split("#[tokio::test").skip(1);
        names.extend(after_attributes.filter_map(|test| {
            let name = test.split("async fn ").nth(1)?;
            Some(name.split('(').next()?.to_owned())
        }));
    }
}

#[test]
fn readme_failures_are_covered_by_tests() {
    let section = README.split("\n## Failure handling\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let numbers: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| failure |"))
        .map(|row| row.rsplit('|').nth(1).unwrap().trim().to_owned())
        .collect();
    let mut tests = BTreeSet::new();
    tests_in(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")),
        &mut tests,
    );
    let mut covered = Vec::new();
    for line in section.lines() {
        if let Some((number, names)) = line.split_once(". `") {
            covered.push(number.to_owned());
            for name in names.trim_end_matches('`').split("`, `") {
                assert!(tests.contains(name), "no test named {name}");
            }
        }
    }
    assert!(
        !numbers.is_empty() && numbers == covered,
        "{numbers:?} are covered by {covered:?}"
    );
}
