//! Tests of the settings: the defaults, the rules between them, and the schema.

use bytesize::ByteSize;
use model::Contract;
use service::config::load;

use super::*;
use crate::limits::cost::RECORD_COST;

fn loaded(variables: &[(&str, &str)]) -> Result<PublisherSettings, String> {
    let owned = variables.iter().map(|(name, value)| {
        let name = format!("PUBLISHER__{name}");
        (name, (*value).to_owned())
    });
    load(None, owned).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_valid_and_listen_on_loopback() {
    let settings = loaded(&[]).unwrap();
    assert!(settings.http.listen.ip().is_loopback());
    assert_eq!(settings.kafka.topic(&Contract::user()), "users_created");
    assert_eq!(settings.kafka.retention, Duration::from_secs(604_800));
}

#[test]
fn sizes_and_durations_have_units() {
    let settings = loaded(&[
        ("LIMITS__MAX_BODY", "1 MiB"),
        ("KAFKA__RETENTION", "24h"),
        ("KAFKA__BROKERS", "a:1, b:2"),
    ])
    .unwrap();
    assert_eq!(settings.limits.max_body, ByteSize::mib(1));
    assert_eq!(settings.kafka.retention, Duration::from_secs(86_400));
    assert_eq!(settings.kafka.brokers.len(), 2);
}

#[test]
fn broken_rule_names_its_key() {
    for (name, value, key) in [
        ("HTTP__LISTEN", "0.0.0.0:8080", "http.listen: "),
        ("HTTP__MAX_CONNECTIONS", "0", "http.max_connections: "),
        ("HTTP__HEADER_TIMEOUT", "0s", "http.header_timeout: "),
        ("HTTP__BODY_TIMEOUT", "0s", "http.body_timeout: "),
        ("HTTP__WRITE_TIMEOUT", "0s", "http.write_timeout: "),
        ("HTTP__WRITE_TIMEOUT", "12s", "process.shutdown_grace: "),
        ("HTTP__HEADER_TIMEOUT", "12s", "process.shutdown_grace: "),
        ("PROCESS__SHUTDOWN_GRACE", "23s", "process.shutdown_grace: "),
        ("HTTP__MAX_CONNECTION_AGE", "0s", "http.max_connection_age: "),
        ("HTTP__REQUEST_TIMEOUT", "23s", "http.request_timeout: "),
        ("HTTP__CORS_ORIGINS", "*", "http.cors_origins: "),
        ("HTTP__CORS_ORIGINS", "https://a.example/", "http.cors_origins: "),
        (
            "HTTP__CORS_ORIGINS",
            "https://a.example,app",
            "http.cors_origins: ",
        ),
        ("HTTP__ACCESS_LOG", "some", "http.access_log: "),
        ("HTTP__RELOAD_INTERVAL", "0s", "http.reload_interval: "),
        ("TLS__CERTIFICATE_PATH", "/x", "tls.key_path: "),
        ("TLS__CLIENT_CA_PATH", "/x", "tls.client_ca_path: "),
        ("TLS__CLIENT_CRL_PATH", "/x", "tls.client_crl_path: "),
        ("IDEMPOTENCY__ENTRIES", "0", "idempotency.entries: "),
        ("LIMITS__MAX_RECORD", "0", "limits.max_record: "),
        ("LIMITS__MAX_RECORD", "17 MiB", "limits.max_record: "),
        ("LIMITS__MAX_RECORDS", "0", "limits.max_records: "),
        ("LIMITS__MAX_BODY", "33 MiB", "limits.max_in_flight_bytes: "),
        (
            "LIMITS__MAX_IN_FLIGHT_RECORDS",
            "19999",
            "limits.max_in_flight_records: ",
        ),
        ("KAFKA__BROKERS", "", "kafka.brokers: "),
        ("KAFKA__BROKERS", "127.0.0.1:99999", "kafka.brokers: "),
        ("KAFKA__BROKERS", "http://127.0.0.1:9092", "kafka.brokers: "),
        ("KAFKA__TOPIC", "a b", "kafka.topic: "),
        ("KAFKA__PARTITIONS", "0", "kafka.partitions: "),
        ("KAFKA__REPLICATION", "0", "kafka.replication: "),
        ("KAFKA__MIN_INSYNC_REPLICAS", "2", "kafka.min_insync_replicas: "),
        ("KAFKA__RETENTION", "0s", "kafka.retention: "),
        ("KAFKA__MESSAGE_TIMEOUT", "999ms", "kafka.message_timeout: "),
        ("KAFKA__LINGER", "12s", "kafka.linger: "),
        ("KAFKA__PROBE_INTERVAL", "0s", "kafka.probe_interval: "),
        ("KAFKA__PROBE_TIMEOUT", "0s", "kafka.probe_timeout: "),
        (
            "KAFKA__PROPERTIES__ACKS",
            "1",
            "kafka.properties.acks: must not be set",
        ),
        (
            "KAFKA__PROPERTIES__MESSAGE_TIMEOUT_MS",
            "1",
            "its own `message.timeout.ms`",
        ),
        (
            "KAFKA__PROPERTIES__TOPIC_PARTITIONER",
            "random",
            "its own `partitioner`",
        ),
        (
            "KAFKA__PROPERTIES__TOPIC_MESSAGE_TIMEOUT_MS",
            "1",
            "its own `message.timeout.ms`",
        ),
        ("KAFKA__PROPERTIES__TOPIC_ACKS", "1", "its own `acks`"),
        (
            "KAFKA__PROPERTIES__QUEUE_BUFFERING_MAX_MS",
            "1",
            "its own `linger.ms`",
        ),
    ] {
        let error = loaded(&[(name, value)]).unwrap_err();
        assert!(error.contains(key), "{name}={value}: {error}");
    }
}

#[test]
fn other_addresses_require_authentication_or_permission() {
    let allowed = [
        ("HTTP__LISTEN", "0.0.0.0:8080"),
        ("HTTP__ALLOW_ANONYMOUS", "true"),
    ];
    assert!(loaded(&allowed).is_ok());
    let known = [("HTTP__LISTEN", "0.0.0.0:8080"), ("AUTH__TOKENS_PATH", "/x")];
    assert!(loaded(&known).is_ok());
    assert!(loaded(&[("HTTP__LISTEN", "[::1]:8080")]).is_ok());
}

#[test]
fn property_under_two_names_is_an_error() {
    let both = [
        ("KAFKA__PROPERTIES__COMPRESSION_TYPE", "zstd"),
        ("KAFKA__PROPERTIES__TOPIC_COMPRESSION_CODEC", "lz4"),
    ];
    let error = loaded(&both).unwrap_err();
    assert!(
        error.contains("kafka.properties.topic_compression_codec: is another name of compression_type"),
        "{error}"
    );
}

#[test]
fn login_that_can_not_work_is_an_error() {
    let error = loaded(&[("KAFKA__PROPERTIES__SASL_MECHANISM", "AWS_MSK_IAM")]).unwrap_err();
    assert!(
        error.contains("kafka.properties.sasl_mechanism: AWS_MSK_IAM is not supported"),
        "{error}"
    );
}

#[test]
fn check_creates_the_producer_with_the_properties() {
    assert!(PublisherSettings::default().check_files().is_empty());
    let found = |name: &str, value: &str| {
        let violations = loaded(&[(name, value)]).unwrap().check_files();
        let texts = violations.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>().join("\n")
    };
    let lifo = found("KAFKA__PROPERTIES__QUEUING_STRATEGY", "lifo");
    assert!(
        lifo.starts_with("kafka.properties: librdkafka refuses them: ")
            && lifo.contains("`enable.idempotence`"),
        "{lifo}"
    );
    let unknown = found("KAFKA__PROPERTIES__NO_SUCH_KEY", "hunter2");
    assert!(
        unknown.starts_with("kafka.properties.no_such_key: librdkafka has no such property")
            && !unknown.contains("hunter2"),
        "{unknown}"
    );
}

#[test]
fn debug_does_not_show_property_values() {
    let settings = loaded(&[("KAFKA__PROPERTIES__SASL_PASSWORD", "00hunter2")]).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let (name, value) = settings.kafka.librdkafka_properties().next().unwrap();
    assert_eq!((name.as_str(), value.expose()), ("sasl.password", "00hunter2"));
}

#[test]
fn readme_and_error_state_the_cost_of_a_record() {
    let manual = include_str!("../../README.md");
    assert!(manual.contains(&format!("{RECORD_COST} bytes for each of its records")));
    let error = loaded(&[("LIMITS__MAX_IN_FLIGHT_BYTES", "29 MiB")]).unwrap_err();
    assert!(
        error.contains(&format!("{RECORD_COST} bytes for each")),
        "{error}"
    );
}

#[test]
fn schema_accepts_a_configuration_and_rejects_a_misspelt_key() {
    let schema = jsonschema::validator_for(&service::config::schema::<PublisherSettings>()).unwrap();
    assert!(schema.is_valid(&serde_json::json!({
        "http": {"listen": "0.0.0.0:8080", "max_connections": 512},
        "kafka": {"brokers": ["kafka-1:9093", "kafka-2:9093"], "replication": 3, "linger": "5ms",
            "properties": {"security_protocol": "ssl", "sasl_password_file": "/run/password"}}
    })));
    assert!(!schema.is_valid(&serde_json::json!({"kafka": {"broker": "kafka:9092"}})));
}
