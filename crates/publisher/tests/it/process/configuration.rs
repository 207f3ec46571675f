//! An invalid configuration ends the process within seconds with exit code 78 and one message a line.

use testkit::service::ServiceOptions;

use crate::support::publisher_process::{Publisher, exit, setup};

#[tokio::test]
async fn invalid_configuration_exits_with_78() {
    for (key, value, expected) in [
        ("kafka.topics", "x", "did you mean `kafka.topic`"),
        ("kafka.partitions", "0", "kafka.partitions: "),
        ("kafka.message_timeout", "1h", "http.request_timeout: "),
        ("http.listen", "0.0.0.0:0", "http.allow_anonymous"),
        ("http.listen", "somewhere", "http.listen"),
        (
            "kafka.properties.enable_idempotence",
            "false",
            "enable.idempotence",
        ),
        ("kafka.properties.no_such_property", "hunter2", "no.such.property"),
        (
            "kafka.properties.security_protocol",
            "hunter2",
            "security.protocol",
        ),
    ] {
        let (code, log) = exit(&setup("127.0.0.1:1", "nowhere").set(key, value)).await;
        assert_eq!(code, Some(78), "{key}={value}: {log}");
        assert!(log.contains(expected), "{key}={value}: {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn check_reports_every_property_that_can_not_work_at_once() {
    let properties = [
        ("ssl_ca_location", "/nowhere/ca.pem"),
        ("foo_bar", "1"),
        ("sasl_password", "hunter2"),
    ];
    let settings = setup("127.0.0.1:1", "nowhere").set("kafka.partitions", "0");
    let settings = properties.iter().fold(settings, |settings, (name, value)| {
        settings.set(&format!("kafka.properties.{name}"), *value)
    });
    let (code, log) = exit(&settings.arg("--check-config")).await;
    assert_eq!(code, Some(78), "{log}");
    for expected in [
        "PUBLISHER__KAFKA__PARTITIONS: kafka.partitions: ",
        "PUBLISHER__KAFKA__PROPERTIES__SSL_CA_LOCATION: kafka.properties.ssl_ca_location: failed to read /nowhere/ca.pem: ",
        "PUBLISHER__KAFKA__PROPERTIES__FOO_BAR: kafka.properties.foo_bar: librdkafka has no such property",
    ] {
        assert!(log.contains(expected), "no {expected} in {log}");
    }
    assert!(!log.contains("hunter2"), "{log}");

    // An error of another section hides no contradiction between properties.
    let contradiction = setup("127.0.0.1:1", "nowhere")
        .set("auth.tokens_path", "/nowhere/tokens")
        .set("kafka.properties.queuing_strategy", "lifo");
    let (code, log) = exit(&contradiction.arg("--check-config")).await;
    assert_eq!(code, Some(78), "{log}");
    for expected in [
        "PUBLISHER__AUTH__TOKENS_PATH: auth.tokens_path: failed to read /nowhere/tokens: ",
        "kafka.properties: librdkafka refuses them: ",
    ] {
        assert!(log.contains(expected), "no {expected} in {log}");
    }
}

#[tokio::test]
async fn port_in_use_exits_with_1_and_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (code, log) = exit(&setup("127.0.0.1:1", "nowhere").set("http.listen", &address)).await;
    assert_eq!(code, Some(1));
    assert!(log.contains(&address));
}

#[tokio::test]
async fn allow_anonymous_permits_any_address() {
    let publisher = Publisher::start(
        &setup("127.0.0.1:1", "nowhere")
            .set("http.listen", "0.0.0.0:0")
            .set("http.allow_anonymous", "true"),
    )
    .await;
    assert!(publisher.url.starts_with("http://0.0.0.0:"), "{}", publisher.url);
}

/// The image's health check runs the same binary with the same configuration.
#[tokio::test]
async fn healthcheck_command_reports_the_running_publisher() {
    let publisher = Publisher::start(&setup("127.0.0.1:1", "nowhere")).await;
    let healthcheck = async |arguments: &[&str]| {
        let admin = publisher.admin.trim_start_matches("http://");
        let setup = setup("127.0.0.1:1", "nowhere").set("process.admin_listen", admin);
        let setup = arguments.iter().copied().fold(setup, ServiceOptions::arg);
        exit(&setup).await.0
    };
    assert_eq!(healthcheck(&["healthcheck"]).await, Some(0));
    assert_eq!(
        healthcheck(&["healthcheck", "--ready"]).await,
        Some(1),
        "without Kafka"
    );
    publisher.child().kill().await.unwrap();
    assert_eq!(healthcheck(&["healthcheck", "--timeout", "500ms"]).await, Some(1));
}
