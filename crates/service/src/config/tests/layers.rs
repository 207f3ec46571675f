//! The precedence of default, file and environment.

use std::time::Duration;

use super::*;
use crate::telemetry::LogFormat;

#[test]
fn defaults_hold_without_file_and_environment() {
    let example: ExampleSettings = load(None, NO_VARIABLES).unwrap();
    assert_eq!(example.cassandra.port, 9042);
    assert_eq!(example.process.shutdown_grace, Duration::from_secs(25));
}

#[test]
fn environment_overrides_file_and_file_overrides_defaults() {
    let file = file("[cassandra]\nport = 1\ncontact_points = ['x:1']\n[process]\nshutdown_grace = '3s'\n");
    let variables = [
        ("EXAMPLE__CASSANDRA__PORT", "2"),
        ("EXAMPLE__PROCESS__LOG_FORMAT", "json"),
        ("EXAMPLE_PORT_9000_TCP", "set by Kubernetes"),
        ("EXAMPLE_SERVICE_HOST", "set by Kubernetes"),
    ];
    let example: ExampleSettings = load(Some(file.path()), variables).unwrap();
    assert_eq!(example.cassandra.port, 2);
    assert_eq!(*example.cassandra.contact_points, ["x:1".to_owned()]);
    assert_eq!(example.process.shutdown_grace, Duration::from_secs(3));
    assert_eq!(example.process.log_format, LogFormat::Json);
}

#[test]
fn list_in_the_environment_is_separated_by_commas() {
    let variables = [("EXAMPLE__CASSANDRA__CONTACT_POINTS", "a:1, b:2")];
    let example: ExampleSettings = load(None, variables).unwrap();
    assert_eq!(
        *example.cassandra.contact_points,
        ["a:1".to_owned(), "b:2".to_owned()]
    );
}

#[test]
fn partial_section_keeps_the_service_defaults() {
    let file = file("[process]\nlog_format = 'json'\n[cassandra]\nport = 1\n");
    let example: ExampleSettings = load(Some(file.path()), NO_VARIABLES).unwrap();
    assert_eq!(example.process.admin_listen.port(), 9000);
    assert_eq!(example.cassandra.port, 1);
    assert_eq!(*example.cassandra.contact_points, ["127.0.0.1:9042".to_owned()]);
}

#[test]
fn map_accepts_any_key_including_dots() {
    let file = file("[properties]\n'security.protocol' = 'ssl'\n");
    let variables = [("EXAMPLE__PROPERTIES__SASL_MECHANISMS", "PLAIN")];
    let example: ExampleSettings = load(Some(file.path()), variables).unwrap();
    assert_eq!(example.properties["security.protocol"], "ssl");
    assert_eq!(example.properties["sasl_mechanisms"], "PLAIN");
}
