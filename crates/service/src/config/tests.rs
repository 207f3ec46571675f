//! Tests of the layered configuration, with settings of their own.

mod errors;
mod layers;
mod record;
mod secrets;

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::{Deserialize, Serialize};

use super::*;
use crate::process::ProcessSettings;

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct ExampleSettings {
    process: ProcessSettings,
    cassandra: Cassandra,
    record: RecordSettings,
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Cassandra {
    contact_points: List,
    password: Option<Secret>,
    port: u16,
    max_port: u16,
}

impl Default for Cassandra {
    fn default() -> Self {
        Self {
            contact_points: List::of(["127.0.0.1:9042"]),
            password: None,
            port: 9042,
            max_port: 10_000,
        }
    }
}

impl Default for ExampleSettings {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9000),
            cassandra: Cassandra::default(),
            record: RecordSettings::default(),
            properties: BTreeMap::new(),
        }
    }
}

impl Settings for ExampleSettings {
    const SERVICE: &'static str = "example";

    fn validate(&self) -> Violations {
        let mut violations = Violations::default();
        let cassandra = &self.cassandra;
        violations.require(
            !cassandra.contact_points.is_empty(),
            "cassandra.contact_points",
            "must not be empty",
        );
        violations.require(
            cassandra.port <= cassandra.max_port,
            "cassandra.port",
            "must not be above cassandra.max_port",
        );
        self.process.validate(&mut violations);
        self.record.validate(&mut violations);
        violations
    }

    fn check_files(&self) -> Violations {
        let mut violations = Violations::default();
        self.record.check_files(&mut violations);
        violations
    }
}

const NO_VARIABLES: [(&str, &str); 0] = [];

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// The lines of the errors of a configuration file and an environment.
fn errors<const N: usize>(
    file: Option<&tempfile::NamedTempFile>,
    variables: [(&str, &str); N],
) -> Vec<String> {
    let errors = load::<ExampleSettings>(file.map(tempfile::NamedTempFile::path), variables).unwrap_err();
    errors.to_string().lines().map(str::to_owned).collect()
}
