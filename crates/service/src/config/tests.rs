use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use super::*;
use crate::process::ProcessSettings;
use crate::secret::Secret;

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Example {
    process: ProcessSettings,
    cassandra: Cassandra,
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Cassandra {
    contact_points: List,
    password: Option<Secret>,
    port: u16,
}

impl Default for Cassandra {
    fn default() -> Self {
        Self {
            contact_points: List::of(["127.0.0.1:9042"]),
            password: None,
            port: 9042,
        }
    }
}

impl Default for Example {
    fn default() -> Self {
        Self {
            process: ProcessSettings::on_port(9000),
            cassandra: Cassandra::default(),
            properties: BTreeMap::new(),
        }
    }
}

impl Settings for Example {
    const SERVICE: &'static str = "example";

    fn validate(&self) -> Result<(), ConfigError> {
        if self.cassandra.contact_points.is_empty() {
            return Err(ConfigError::Invalid {
                key: "cassandra.contact_points",
                reason: "is empty".to_owned(),
            });
        }
        Ok(())
    }
}

fn environment<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

#[test]
fn without_file_and_environment_the_defaults_hold() {
    let example: Example = load(None, []).unwrap();
    assert_eq!(example.cassandra.port, 9042);
    assert_eq!(example.process.shutdown_grace, Duration::from_secs(25));
}

#[test]
fn the_environment_goes_over_the_file_and_the_file_over_the_defaults() {
    let file = file("[cassandra]\nport = 1\ncontact_points = ['x:1']\n[process]\nshutdown_grace = '3s'\n");
    let variables = environment([
        ("EXAMPLE__CASSANDRA__PORT", "2"),
        ("EXAMPLE__PROCESS__LOG_FORMAT", "json"),
        ("EXAMPLE_PORT_9000_TCP", "left alone: it is not ours"),
    ]);
    let example: Example = load(Some(file.path()), variables).unwrap();
    assert_eq!(example.cassandra.port, 2);
    assert_eq!(*example.cassandra.contact_points, ["x:1".to_owned()]);
    assert_eq!(example.process.shutdown_grace, Duration::from_secs(3));
    assert_eq!(example.process.log_format, crate::telemetry::LogFormat::Json);
}

#[test]
fn a_list_in_the_environment_is_separated_by_commas() {
    let variables = environment([("EXAMPLE__CASSANDRA__CONTACT_POINTS", "a:1, b:2")]);
    let example: Example = load(None, variables).unwrap();
    assert_eq!(
        *example.cassandra.contact_points,
        ["a:1".to_owned(), "b:2".to_owned()]
    );
}

#[test]
fn a_section_keeps_the_services_own_defaults_when_another_key_of_it_is_given() {
    let file = file("[process]\nlog_format = 'json'\n[cassandra]\nport = 1\n");
    let example: Example = load(Some(file.path()), []).unwrap();
    assert_eq!(example.process.admin_listen.port(), 9000);
    assert_eq!(example.cassandra.port, 1);
    assert_eq!(*example.cassandra.contact_points, ["127.0.0.1:9042".to_owned()]);
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    let variables = environment([("EXAMPLE__CASSANDRA__CONTACT_POINT", "a:1")]);
    let error = load::<Example>(None, variables).unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown key `cassandra.contact_point`, did you mean `cassandra.contact_points`?"
    );
    let file = file("[cassandra]\nprot = 1\n");
    let error = load::<Example>(Some(file.path()), []).unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown key `cassandra.prot`, did you mean `cassandra.port`?"
    );
}

#[test]
fn a_password_of_digits_keeps_its_zeros_and_is_never_shown() {
    let variables = environment([("EXAMPLE__CASSANDRA__PASSWORD", "00123")]);
    let example: Example = load(None, variables).unwrap();
    assert!(!format!("{example:?}").contains("00123"));
    assert_eq!(example.cassandra.password.unwrap().expose(), "00123");
}

#[test]
fn a_secret_is_read_from_a_file_without_its_last_line_end() {
    let secret = file("s3cret\n");
    let path = secret.path().to_str().unwrap();
    let example: Example = load(None, environment([("EXAMPLE__CASSANDRA__PASSWORD_FILE", path)])).unwrap();
    assert_eq!(example.cassandra.password.unwrap().expose(), "s3cret");
    let gone = environment([("EXAMPLE__CASSANDRA__PASSWORD_FILE", "/nowhere/secret")]);
    let error = load::<Example>(None, gone).unwrap_err();
    assert_eq!(error.to_string(), "read /nowhere/secret");
}

#[test]
fn in_a_map_a_key_that_names_a_file_gives_way_to_what_is_in_the_file() {
    let secret = file("s3cret\n");
    let path = secret.path().display();
    let in_file = file(&format!(
        "[properties]\nsasl_password_file = '{path}'\nsasl_username = 'me'\n"
    ));
    let in_environment = [("EXAMPLE__PROPERTIES__SASL_PASSWORD_FILE", &*path.to_string())];
    for (file, variables) in [
        (Some(in_file.path()), Vec::new()),
        (None, environment(in_environment)),
    ] {
        let mut example: Example = load(file, variables).unwrap();
        example.properties.remove("sasl_username");
        let expected = BTreeMap::from([("sasl_password".to_owned(), "s3cret".to_owned())]);
        assert_eq!(example.properties, expected);
    }
}

#[test]
fn a_map_takes_any_key_also_one_with_dots() {
    let file = file("[properties]\n'security.protocol' = 'ssl'\n");
    let variables = environment([("EXAMPLE__PROPERTIES__SASL_MECHANISMS", "PLAIN")]);
    let example: Example = load(Some(file.path()), variables).unwrap();
    assert_eq!(example.properties["security.protocol"], "ssl");
    assert_eq!(example.properties["sasl_mechanisms"], "PLAIN");
}

#[test]
fn a_value_that_makes_no_sense_or_has_the_wrong_type_names_its_key() {
    let error = load::<Example>(None, environment([("EXAMPLE__CASSANDRA__CONTACT_POINTS", "")])).unwrap_err();
    assert_eq!(error.to_string(), "`cassandra.contact_points` is empty");
    let error = load::<Example>(None, environment([("EXAMPLE__CASSANDRA__PORT", "x")])).unwrap_err();
    assert!(
        crate::process::chain(&error).contains("cassandra.port"),
        "{}",
        crate::process::chain(&error)
    );
    let error =
        load::<Example>(None, environment([("EXAMPLE__PROCESS__SHUTDOWN_GRACE", "soon")])).unwrap_err();
    assert!(crate::process::chain(&error).contains("process.shutdown_grace"));
}
