//! A wrong configuration ends the process within seconds, with exit 78 and one clear line.

use std::time::Duration;

use crate::running::setup;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_is_wrong_is_told_in_one_line_with_exit_78() {
    for (key, value, told) in [
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
        let status = child.wait(SOON).await.unwrap();
        let log = child.last_lines(10);
        assert_eq!(status.code(), Some(78), "{key}={value}: {log}");
        assert!(log.contains(told), "{key}={value}: {log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn a_taken_port_ends_it_at_once_and_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let setup = setup("127.0.0.1:1", "nowhere").with("HTTP__LISTEN", &address);
    let child = setup.spawn();
    assert_eq!(child.wait(SOON).await.unwrap().code(), Some(1));
    assert!(child.last_lines(10).contains(&address));
}

#[tokio::test]
async fn another_address_is_served_when_the_operator_says_so() {
    let publisher = setup("127.0.0.1:1", "nowhere")
        .with("HTTP__LISTEN", "0.0.0.0:0")
        .with("HTTP__ALLOW_ANONYMOUS", "true")
        .start()
        .await;
    assert!(publisher.url.starts_with("http://0.0.0.0:"), "{}", publisher.url);
}

/// The image's health check is the same program with the same configuration.
#[tokio::test]
async fn the_healthcheck_command_tells_what_the_running_one_says() {
    let publisher = setup("127.0.0.1:1", "nowhere").start().await;
    let asked = async |arguments: &[&str]| {
        let admin = publisher.admin.trim_start_matches("http://");
        let asking = setup("127.0.0.1:1", "nowhere").with("PROCESS__ADMIN_LISTEN", admin);
        let asking = asking.command(arguments);
        let status = asking.spawn().wait(SOON).await.unwrap();
        status.code()
    };
    assert_eq!(asked(&["healthcheck"]).await, Some(0));
    assert_eq!(asked(&["healthcheck", "--ready"]).await, Some(1), "without Kafka");
    publisher.child.kill().await.unwrap();
    assert_eq!(asked(&["healthcheck", "--timeout", "500ms"]).await, Some(1));
}
