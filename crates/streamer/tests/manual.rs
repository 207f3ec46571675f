//! The README's tables say what the code does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::net::SocketAddr;

use cdrs_tokio::Error;
use cdrs_tokio::frame::message_error::ErrorBody;
use cdrs_tokio::frame::{FromCursor as _, Version};
use service::Metrics;
use streamer::Settings;
use streamer::cassandra::fault::Fault;
use streamer::metrics::StreamerMetrics;
use testkit::readme_check;

const README: &str = include_str!("../README.md");

#[test]
fn every_key_is_in_the_manual_with_its_default() {
    let keys = readme_check::keys(&serde_json::to_value(Settings::default()).unwrap());
    assert_eq!(readme_check::table(README, "Configuration"), keys);
}

#[test]
fn every_metric_is_in_the_manual() {
    let metrics = Metrics::new("streamer");
    let created = StreamerMetrics::new(&metrics);
    for counters in [
        &created.rows,
        &created.dead_letters,
        &created.misplaced,
        &created.batches,
        &created.retries,
        &created.checkpoints,
        &created.rebalances,
        &created.restarts,
    ] {
        counters.with_label_values(&["any"]);
    }
    created.checkpoint_age.with_label_values(&["0"]);
    for gauges in [&created.checkpoint_offset, &created.end_offset, &created.lag] {
        gauges.with_label_values(&["0"]);
    }
    let told: Vec<_> = readme_check::table(README, "Metrics")
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    assert_eq!(told, readme_check::metrics(&metrics.render(), "streamer"));
}

/// What is said of a fault's kind.
fn told(fault: &Fault) -> (String, String) {
    let then = match fault {
        Fault::Retry { overload: true, .. } => "the same rows again, fewer in flight",
        Fault::Retry { .. } => "the same rows again",
        Fault::Reconnect { .. } => "a new session, the whole micro-batch again",
        Fault::Invalid(_) => {
            "halved, down to the row; the table is verified; that row alone is a dead letter"
        }
        Fault::Fatal(_) => "exit 78 with the server's words",
    };
    (fault.kind().to_owned(), then.to_owned())
}

/// The code of every error that the native protocol has, with a body that suits each: no words, and zeros.
fn answers_of_cassandra() -> Vec<Error> {
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
fn what_each_answer_of_cassandra_leads_to_is_in_the_manual() {
    let of_the_driver = [
        Error::Io(std::io::ErrorKind::BrokenPipe.into()),
        Error::Timeout(String::new()),
        Error::General(String::new()),
    ];
    // A code that the driver does not know yet does not reach us as one; the arm is there for the day it does.
    let unlisted = Fault::Retry {
        kind: "unlisted",
        overload: false,
    };
    let found: BTreeMap<_, _> = answers_of_cassandra()
        .iter()
        .chain(&of_the_driver)
        .map(Fault::of)
        .chain([unlisted])
        .map(|fault| told(&fault))
        .collect();
    assert_eq!(
        readme_check::table(README, "What each answer of Cassandra leads to"),
        found
    );
}

/// The names of the tests that are run against real servers.
fn tests() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let after_attributes = text.split("#[tokio::test").skip(1);
        names.extend(after_attributes.filter_map(|test| {
            let name = test.split("async fn ").nth(1)?;
            Some(name.split('(').next()?.to_owned())
        }));
    }
    names
}

#[test]
fn every_failure_in_the_manual_has_its_tests() {
    let section = README.split("\n## When something fails\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let numbers: Vec<_> = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what |"))
        .map(|row| row.rsplit('|').nth(1).unwrap().trim().to_owned())
        .collect();
    let tests = tests();
    let mut held = Vec::new();
    for line in section.lines() {
        if let Some((number, names)) = line.split_once(". `") {
            held.push(number.to_owned());
            for name in names.trim_end_matches('`').split("`, `") {
                assert!(tests.contains(name), "no test is called {name}");
            }
        }
    }
    assert!(
        !numbers.is_empty() && numbers == held,
        "{numbers:?} are held by {held:?}"
    );
}
