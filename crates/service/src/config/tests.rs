//! Tests of the layered configuration, with settings of their own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::draft::json;
use super::*;
use crate::process::ProcessSettings;
use crate::secret::Secret;
use crate::telemetry::LogFormat;

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
fn password_of_digits_keeps_its_zeros_and_is_not_shown() {
    let variables = [("EXAMPLE__CASSANDRA__PASSWORD", "00123")];
    let example: ExampleSettings = load(None, variables).unwrap();
    assert!(!format!("{example:?}").contains("00123"));
    assert_eq!(example.cassandra.password.unwrap().expose(), "00123");
}

#[test]
fn error_does_not_quote_a_secret() {
    let file = file("[cassandra]\npassword = 1.25\n[properties]\nsasl_password = [1.25]\n");
    let name = path(&file);
    assert_eq!(
        errors(Some(&file), []),
        [
            format!("{name}:2: cassandra.password: must be a text in quotes"),
            format!("{name}:4: properties.sasl_password: must be a text in quotes"),
        ]
    );
}

#[test]
fn secret_file_is_read_without_its_last_line_end() {
    let secret = file("s3cret\n");
    let example: ExampleSettings =
        load(None, [("EXAMPLE__CASSANDRA__PASSWORD_FILE", path(&secret))]).unwrap();
    assert_eq!(example.cassandra.password.unwrap().expose(), "s3cret");
    let errors = errors(None, [("EXAMPLE__CASSANDRA__PASSWORD_FILE", "/nowhere/secret")]);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with(
            "environment variable EXAMPLE__CASSANDRA__PASSWORD_FILE: cassandra.password_file: failed to read \
             /nowhere/secret: "
        ),
        "{errors:?}"
    );
}

#[test]
fn environment_overrides_a_key_file_of_the_file_and_vice_versa() {
    let secret = file("in a file\n");
    let password = |file: &tempfile::NamedTempFile, variable: (&str, &str)| {
        let example: ExampleSettings = load(Some(file.path()), [variable]).unwrap();
        example.cassandra.password.unwrap().expose().to_owned()
    };
    let by_name = file(&format!("[cassandra]\npassword_file = '{}'\n", path(&secret)));
    assert_eq!(
        password(&by_name, ("EXAMPLE__CASSANDRA__PASSWORD", "direct")),
        "direct"
    );
    let direct = file("[cassandra]\npassword = 'direct'\n");
    assert_eq!(
        password(&direct, ("EXAMPLE__CASSANDRA__PASSWORD_FILE", path(&secret))),
        "in a file"
    );
}

#[test]
fn key_and_key_file_in_one_layer_are_an_error() {
    let secret = file("s3cret\n");
    let both = file(&format!(
        "[cassandra]\npassword = 'x'\npassword_file = '{}'\n",
        path(&secret)
    ));
    let in_file = errors(Some(&both), []);
    let in_environment = errors(
        None,
        [
            ("EXAMPLE__CASSANDRA__PASSWORD", "x"),
            ("EXAMPLE__CASSANDRA__PASSWORD_FILE", path(&secret)),
        ],
    );
    assert_eq!(
        in_file,
        [format!(
            "{0}:3: cassandra.password_file: cassandra.password is also set, by {0}:2; set only one of the two",
            path(&both)
        )]
    );
    assert_eq!(
        in_environment,
        [
            "environment variable EXAMPLE__CASSANDRA__PASSWORD_FILE: cassandra.password_file: cassandra.password is \
             also set, by environment variable EXAMPLE__CASSANDRA__PASSWORD; set only one of the two"
        ]
    );
}

#[test]
fn key_file_in_a_map_is_replaced_by_the_content() {
    let secret = file("s3cret\n");
    let path = path(&secret);
    let in_file = file(&format!(
        "[properties]\nsasl_password_file = '{path}'\nsasl_username = 'me'\n"
    ));
    let in_environment = vec![("EXAMPLE__PROPERTIES__SASL_PASSWORD_FILE", path)];
    for (file, variables) in [(Some(in_file.path()), Vec::new()), (None, in_environment)] {
        let mut example: ExampleSettings = load(file, variables).unwrap();
        example.properties.remove("sasl_username");
        let expected = BTreeMap::from([("sasl_password".to_owned(), "s3cret".to_owned())]);
        assert_eq!(example.properties, expected);
    }
}

#[test]
fn map_accepts_any_key_including_dots() {
    let file = file("[properties]\n'security.protocol' = 'ssl'\n");
    let variables = [("EXAMPLE__PROPERTIES__SASL_MECHANISMS", "PLAIN")];
    let example: ExampleSettings = load(Some(file.path()), variables).unwrap();
    assert_eq!(example.properties["security.protocol"], "ssl");
    assert_eq!(example.properties["sasl_mechanisms"], "PLAIN");
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

#[test]
fn print_shows_values_and_origins_and_masks_secrets() {
    let secret = file("hunter2\n");
    let file = file(&format!(
        "[cassandra]\npassword_file = '{}'\n[properties]\n'sasl.password' = 'hunter2'\n",
        path(&secret)
    ));
    let variables = [
        ("EXAMPLE__CASSANDRA__PORT", "1"),
        ("EXAMPLE__CASSANDRA__CONTACT_POINTS", "a:1,b:2"),
    ];
    let loaded = Draft::<ExampleSettings>::read(Some(file.path()), variables)
        .finish()
        .unwrap();
    let text = cli::print(&json(&loaded.settings), &loaded.keys, &loaded.origins);
    let (name, secret) = (path(&file), path(&secret));
    for line in [
        "cassandra.contact_points = [\"a:1\",\"b:2\"]  # environment variable EXAMPLE__CASSANDRA__CONTACT_POINTS",
        "cassandra.max_port = 10000  # default",
        &format!("cassandra.password = \"***\"  # file {secret} named by {name}:2"),
        "cassandra.port = 1  # environment variable EXAMPLE__CASSANDRA__PORT",
        &format!("properties.sasl.password = \"***\"  # {name}:4"),
        "process.shutdown_grace = \"25s\"  # default",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line}\n{text}");
    }
    assert!(!text.contains("hunter2"));
    let unset = Draft::<ExampleSettings>::read(None, NO_VARIABLES)
        .finish()
        .unwrap();
    let text = cli::print(&json(&unset.settings), &unset.keys, &unset.origins);
    assert!(
        text.contains("cassandra.password = (not set)  # default\n"),
        "{text}"
    );
}

/// A contract whose only field is its key.
fn contract(message: &str, field: &str) -> String {
    format!(
        "syntax = \"proto3\";\npackage shop.v1;\nimport \"affluent/options/v1/options.proto\";\n\
         message {message} {{\noption (affluent.options.v1.record) = {{ resource: \"orders\" key: \"id\" }};\n\
         {field} = 1;\n}}\n"
    )
}

/// The errors of the settings `record` in a file, and the path of that file.
fn record_errors(record: &str) -> (Vec<String>, String) {
    let file = file(&format!("[record]\n{record}"));
    let mut draft = Draft::<ExampleSettings>::read(Some(file.path()), NO_VARIABLES);
    draft.check(ExampleSettings::validate);
    draft.check(ExampleSettings::check_files);
    let errors = draft.finish().map(drop).unwrap_err();
    (
        errors.iter().map(ToString::to_string).collect(),
        path(&file).to_owned(),
    )
}

#[test]
fn record_is_the_user_unless_a_proto_is_named() {
    let record = RecordSettings::default().load().unwrap();
    assert_eq!(record.name(), "affluent.users.v1.User");
    assert_eq!(&*default_topic(&record), "users_created");
    let proto = file(&contract("Order", "string id"));
    let variables = [("EXAMPLE__RECORD__PROTO", path(&proto))];
    let example: ExampleSettings = load(None, variables).unwrap();
    let record = example.record.load().unwrap();
    assert_eq!((record.name(), record.resource()), ("shop.v1.Order", "orders"));
    assert_eq!(&*default_topic(&record), "orders_created");
}

#[test]
fn refused_contract_is_an_error_of_its_key() {
    let broken = file("message");
    let proto = path(&broken);
    let (errors, config) = record_errors("include = ['shared']\nmessage = 'shop.v1.Order'\n");
    assert_eq!(
        errors,
        [
            format!("{config}:2: record.include: must not be set without record.proto"),
            format!("{config}:3: record.message: must not be set without record.proto"),
        ]
    );
    let (errors, config) = record_errors(&format!("proto = '{proto}'\n"));
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with(&format!("{config}:2: record.proto: failed to compile {proto}: ")),
        "{errors:?}"
    );
    let order = file(&contract("Order", "optional string id"));
    let proto = path(&order);
    let (errors, config) = record_errors(&format!("proto = '{proto}'\ninclude = '/nowhere'\n"));
    assert_eq!(
        errors,
        [format!("{config}:3: record.include: /nowhere is not a folder")]
    );
    let (errors, config) = record_errors(&format!("message = 'shop.v1.Ordre'\nproto = '{proto}'\n"));
    assert!(
        errors[0].starts_with(&format!("{config}:2: record.message: "))
            && errors[0].ends_with("shop.v1.Order"),
        "{errors:?}"
    );
    let (errors, config) = record_errors(&format!("proto = '{proto}'\n"));
    let name = order.path().file_name().unwrap().to_str().unwrap();
    assert!(
        errors[0].starts_with(&format!("{config}:2: record.proto: {name}:6: field `id`: "))
            && errors[0].contains("remove `optional`"),
        "{errors:?}"
    );
}
