//! `--check-config` reports all properties of librdkafka that can't work, with their lines.

use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::workspace;

/// Checks a configuration that must be refused. Returns its file and the errors.
fn check(name: &str, text: &str) -> (String, String) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).unwrap();
    let output = Command::new(workspace::binary("streamer").unwrap())
        .arg("--config")
        .arg(&file)
        .arg("--check-config")
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{errors}");
    (file.display().to_string(), errors)
}

#[test]
fn check_reports_every_property_that_can_not_work_at_once() {
    let text = r#"[kafka]
partitions = 0
[kafka.properties]
ssl_ca_location = "/nowhere/ca.pem"
foo_bar = "1"
sasl_password = "hunter2"
"#;
    let (file, errors) = check("properties.toml", text);
    for (line, expected) in [
        (2, "kafka.partitions: "),
        (
            4,
            "kafka.properties.ssl_ca_location: failed to read /nowhere/ca.pem: ",
        ),
        (5, "kafka.properties.foo_bar: librdkafka has no such property"),
    ] {
        let expected = format!("{file}:{line}: {expected}");
        assert!(errors.contains(&expected), "no {expected} in {errors}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");

    // An error of another section hides no contradiction between properties.
    let text = r#"[kafka.properties]
max_poll_interval_ms = "5000"
[cassandra.tls]
ca_path = "/nowhere/ca.pem"
"#;
    let (file, errors) = check("contradiction.toml", text);
    for expected in [
        format!("{file}:4: cassandra.tls.ca_path: "),
        "kafka.properties: librdkafka refuses them: ".to_owned(),
    ] {
        assert!(errors.contains(&expected), "no {expected} in {errors}");
    }
}
