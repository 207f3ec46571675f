//! Errors and their origins.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::*;

#[test]
fn no_setting_can_be_empty_or_zero_by_accident() {
    let text = |variable: (&str, &str)| match load::<ExampleSettings>(None, [variable]) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    };
    for (name, value, reason) in [
        (
            "EXAMPLE__PROCESS__LOG_FILTER",
            "",
            "process.log_filter: must not be empty; leave it out for the default",
        ),
        (
            "EXAMPLE__RECORD__PROTO",
            " ",
            "record.proto: must not be empty; leave it out for the default",
        ),
        (
            "EXAMPLE__CASSANDRA__PASSWORD",
            "",
            "cassandra.password: must not be empty; leave it out for the default",
        ),
        (
            "EXAMPLE__PROCESS__SHUTDOWN_GRACE",
            "0ms",
            "process.shutdown_grace: must be above zero",
        ),
    ] {
        assert_eq!(
            text((name, value)),
            format!("environment variable {name}: {reason}")
        );
    }
    // The entries of maps are other software's settings, which may be empty.
    assert_eq!(text(("EXAMPLE__PROPERTIES__SASL_PASSWORD", "")), "");
}

#[test]
fn unknown_key_is_named_with_origin_and_nearest_key() {
    assert_eq!(
        errors(None, [("EXAMPLE__CASSANDRA__CONTACT_POINT", "a:1")]),
        [
            "environment variable EXAMPLE__CASSANDRA__CONTACT_POINT: cassandra.contact_point: unknown key, did you \
             mean `cassandra.contact_points`?"
        ]
    );
    let file = file("# comment\n\n[cassandra]\nprot = 1\n");
    assert_eq!(
        errors(Some(&file), []),
        [format!(
            "{}:4: cassandra.prot: unknown key, did you mean `cassandra.port`?",
            path(&file)
        )]
    );
}

#[test]
fn all_errors_of_all_layers_are_reported_at_once() {
    let file = file(
        "properties.x = [1]\n[cassandra]\nprot = 1\nport = 'x'\ncontact_points = []\n[process]\nshutdown_grace = 'soon'\n",
    );
    let name = path(&file);
    let errors = errors(
        Some(&file),
        [
            ("EXAMPLE__PROCESS__LOG_FORMAT", "jsn"),
            ("EXAMPLE__CASSANDRA", "x"),
            ("EXAMPLE_CASSANDRA__MAX_PORT", "1"),
        ],
    );
    let expected = [
        format!("{name}:1: properties.x: must be a text in quotes"),
        format!("{name}:3: cassandra.prot: unknown key, did you mean `cassandra.port`?"),
        format!("{name}:4: cassandra.port: expected an integer, found string \"x\""),
        format!("{name}:5: cassandra.contact_points: must not be empty"),
        format!("{name}:7: process.shutdown_grace: invalid value: not a duration, such as `30s` or `1h 30m`"),
        "environment variable EXAMPLE_CASSANDRA__MAX_PORT: unknown variable, did you mean \
         EXAMPLE__CASSANDRA__MAX_PORT?"
            .to_owned(),
        "environment variable EXAMPLE__CASSANDRA: cassandra: is a section of keys and takes no value".to_owned(),
        "environment variable EXAMPLE__PROCESS__LOG_FORMAT: process.log_format: unknown variant `jsn`, expected `text` \
         or `json`"
            .to_owned(),
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(&expected) {
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
    assert!(errors[4].ends_with("(the default is \"25s\")"), "{}", errors[4]);
}

#[test]
fn toml_syntax_error_has_its_line_and_hides_no_variable() {
    let file = file("[cassandra]\nport = 1\nmax_port = = 2\n");
    let errors = errors(Some(&file), [("EXAMPLE__CASSANDRA__PORT", "x")]);
    assert!(
        errors[0].starts_with(&format!("{}:3: failed to parse TOML: ", path(&file))),
        "{errors:?}"
    );
    let last = errors.last().unwrap();
    assert!(
        last.starts_with("environment variable EXAMPLE__CASSANDRA__PORT: cassandra.port"),
        "{errors:?}"
    );
}

#[test]
fn missing_configuration_file_is_named() {
    let errors = load::<ExampleSettings>(Some(Path::new("/nowhere/x.toml")), NO_VARIABLES).unwrap_err();
    assert!(
        errors
            .to_string()
            .starts_with("/nowhere/x.toml: failed to read: "),
        "{errors}"
    );
}

#[test]
fn broken_rule_has_the_origin_of_its_key() {
    let file = file("[cassandra]\nport = 10001\n");
    assert_eq!(
        errors(Some(&file), []),
        [format!(
            "{}:2: cassandra.port: must not be above cassandra.max_port",
            path(&file)
        )]
    );
    assert_eq!(
        errors(None, [("EXAMPLE__CASSANDRA__MAX_PORT", "1")]),
        ["default: cassandra.port: must not be above cassandra.max_port"]
    );
    let filter = errors(None, [("EXAMPLE__PROCESS__LOG_FILTER", "info,=x=y")]);
    assert!(
        filter[0].contains("process.log_filter: failed to parse"),
        "{filter:?}"
    );
}

#[test]
fn rule_is_not_blamed_on_a_key_with_another_error() {
    let errors = errors(
        None,
        [
            ("EXAMPLE__CASSANDRA__PORT", "10001"),
            ("EXAMPLE__CASSANDRA__MAX_PORT", "x"),
        ],
    );
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("cassandra.max_port: expected"), "{errors:?}");
}

#[test]
fn variable_with_a_single_underscore_is_corrected() {
    for (wrong, meant) in [
        ("EXAMPLE_CASSANDRA__PORT", "EXAMPLE__CASSANDRA__PORT"),
        ("EXAMPLE_CASSANDRA_MAX_PORT", "EXAMPLE__CASSANDRA__MAX_PORT"),
        (
            "EXAMPLE_CASSANDRA_PASSWORD_FILE",
            "EXAMPLE__CASSANDRA__PASSWORD_FILE",
        ),
        (
            "EXAMPLE_PROPERTIES_SASL_PASSWORD",
            "EXAMPLE__PROPERTIES__SASL_PASSWORD",
        ),
    ] {
        assert_eq!(
            errors(None, [(wrong, "hunter2")]),
            [format!(
                "environment variable {wrong}: unknown variable, did you mean {meant}?"
            )]
        );
    }
    let errors = errors(None, [("EXAMPLE__CASSANDRA_PORT", "1")]);
    assert!(
        errors[0].ends_with("did you mean `cassandra.port`?"),
        "{errors:?}"
    );
}

#[test]
fn variable_that_is_not_utf8_is_an_error_only_with_our_prefix() {
    let invalid = OsStr::from_bytes(b"\xff").to_owned();
    let variables = |name: &str| [(OsString::from(name), invalid.clone())];
    assert!(load::<ExampleSettings>(None, variables("PATH")).is_ok());
    assert!(load::<ExampleSettings>(None, [(invalid.clone(), invalid.clone())]).is_ok());
    let errors = load::<ExampleSettings>(None, variables("EXAMPLE__CASSANDRA__PORT")).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "environment variable EXAMPLE__CASSANDRA__PORT: cassandra.port: the value is not valid UTF-8"
    );
}
