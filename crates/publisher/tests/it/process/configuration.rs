//! An invalid configuration ends the process within seconds with exit code 78 and one message a line.

use std::time::Duration;

use crate::support::harness::setup;

const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn invalid_configuration_exits_with_78() {
    for (key, value, expected) in [
        ("KAFKA__TOPICS", "x", "did you mean `kafka.topic`"),
        ("KAFKA__PARTITIONS", "0", "kafka.partitions: "),
        ("KAFKA__MESSAGE_TIMEOUT", "1h", "http.request_timeout: "),
        ("HTTP__LISTEN", "0.0.0.0:0", "http.allow_anonymous"),
        ("HTTP__LISTEN", "somewhere", "http.listen"),
        (
            "KAFKA__PROPERTIES__ENABLE_IDEMPOTENCE",
            "false",
            "enable.idempotence",
        ),
        (
            "KAFKA__PROPERTIES__NO_SUCH_PROPERTY",
            "hunter2",
            "no.such.property",
        ),
        (
            "KAFKA__PROPERTIES__SECURITY_PROTOCOL",
            "hunter2",
            "security.protocol",
        ),
    ] {
        let setup = setup("127.0.0.1:1", "nowhere").with(key, value);
        let child = setup.spawn();
        let status = child.wait(EXIT_TIMEOUT).await.unwrap();
        let log = child.last_lines(10);
        assert_eq!(status.code(), Some(78), "{key}={value}: {log}");
        assert!(log.contains(expected), "{key}={value}: {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn check_reports_every_property_that_can_not_work_at_once() {
    let properties = [
        ("SSL_CA_LOCATION", "/nowhere/ca.pem"),
        ("FOO_BAR", "1"),
        ("SASL_PASSWORD", "hunter2"),
    ];
    let setup = setup("127.0.0.1:1", "nowhere").with("KAFKA__PARTITIONS", "0");
    let setup = properties.iter().fold(setup, |setup, (name, value)| {
        setup.with(&format!("KAFKA__PROPERTIES__{name}"), value)
    });
    let setup = setup.arguments(&["--check-config"]);
    let child = setup.spawn();
    let status = child.wait(EXIT_TIMEOUT).await.unwrap();
    let log = child.last_lines(10);
    assert_eq!(status.code(), Some(78), "{log}");
    for expected in [
        "PUBLISHER__KAFKA__PARTITIONS: kafka.partitions: ",
        "PUBLISHER__KAFKA__PROPERTIES__SSL_CA_LOCATION: kafka.properties.ssl_ca_location: failed to read /nowhere/ca.pem: ",
        "PUBLISHER__KAFKA__PROPERTIES__FOO_BAR: kafka.properties.foo_bar: librdkafka has no such property",
    ] {
        assert!(log.contains(expected), "no {expected} in {log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn port_in_use_exits_with_1_and_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let setup = setup("127.0.0.1:1", "nowhere").with("HTTP__LISTEN", &address);
    let child = setup.spawn();
    assert_eq!(child.wait(EXIT_TIMEOUT).await.unwrap().code(), Some(1));
    assert!(child.last_lines(10).contains(&address));
}

#[tokio::test]
async fn allow_anonymous_permits_any_address() {
    let publisher = setup("127.0.0.1:1", "nowhere")
        .with("HTTP__LISTEN", "0.0.0.0:0")
        .with("HTTP__ALLOW_ANONYMOUS", "true")
        .start()
        .await;
    assert!(publisher.url.starts_with("http://0.0.0.0:"), "{}", publisher.url);
}

/// The image's health check runs the same binary with the same configuration.
#[tokio::test]
async fn healthcheck_command_reports_the_running_publisher() {
    let publisher = setup("127.0.0.1:1", "nowhere").start().await;
    let healthcheck = async |arguments: &[&str]| {
        let admin = publisher.admin.trim_start_matches("http://");
        let setup = setup("127.0.0.1:1", "nowhere").with("PROCESS__ADMIN_LISTEN", admin);
        let setup = setup.arguments(arguments);
        let status = setup.spawn().wait(EXIT_TIMEOUT).await.unwrap();
        status.code()
    };
    assert_eq!(healthcheck(&["healthcheck"]).await, Some(0));
    assert_eq!(
        healthcheck(&["healthcheck", "--ready"]).await,
        Some(1),
        "without Kafka"
    );
    publisher.child.kill().await.unwrap();
    assert_eq!(healthcheck(&["healthcheck", "--timeout", "500ms"]).await, Some(1));
}
