//! A Kafka with SASL and ACLs. A rejected client exits with 78 within seconds, as a service and as a command.

use std::time::Duration;

use futures::future::join_all;
use testkit::servers::{AclOperation, KafkaResource, secured};
use testkit::service::{Service, ServiceOptions};

use crate::support::commands::run_command;
use crate::support::test_env::TestEnv;

/// Limit for the exit, far below the wait for an unreachable server.
const EXIT_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn rejected_kafka_client_exits_78() {
    let env = TestEnv::without_topic("authorization").await;
    let authority = secured::authority();
    let kafka = secured::kafka(&authority).await.unwrap();
    let name = |user: &str| format!("{}-{user}", env.topic);
    for (user, password) in [("admin", "admin-secret"), ("reader", "no-secret")] {
        kafka.set_password(&name(user), password).await.unwrap();
    }
    let (topic, dead_letters) = (
        KafkaResource::Topic(env.topic.clone()),
        KafkaResource::Topic(env.dead_letter_topic()),
    );
    let rights = [
        (AclOperation::Create, topic.clone()),
        (AclOperation::Read, topic),
        (AclOperation::Create, dead_letters.clone()),
        (AclOperation::Read, dead_letters.clone()),
        (AclOperation::Write, dead_letters),
        (AclOperation::Read, KafkaResource::Group(env.topic.clone())),
    ];
    kafka.allow(&name("admin"), &rights).await.unwrap();
    let login = |user: &str, password: &str| -> ServiceOptions {
        env.options()
            .set("kafka.brokers", kafka.bootstrap())
            .set("kafka.properties.security_protocol", "sasl_ssl")
            .set(
                "kafka.properties.ssl_ca_location",
                authority.file().display().to_string(),
            )
            .set("kafka.properties.sasl_mechanisms", "SCRAM-SHA-512")
            .set("kafka.properties.sasl_username", name(user))
            .set("kafka.properties.sasl_password", password)
    };
    let services = [
        ("admin", "wrong-secret", "Authentication"),
        ("reader", "no-secret", "uthorization"),
    ]
    .map(async |(user, password, cause)| {
        let streamer = Service::start(&login(user, password).log_name(user)).unwrap();
        let code = streamer.wait(EXIT_LIMIT).await;
        let log = streamer.last_lines(20);
        assert_eq!(code.ok().flatten(), Some(78), "{log}");
        assert!(
            log.contains("rejected this client") && log.contains(cause),
            "{log}"
        );
        assert!(!log.contains("-secret"), "{log}");
    });
    let commands = [
        "status",
        "verify",
        "dead-letters list",
        "dead-letters reset-limits",
    ]
    .map(async |command| {
        let started = std::time::Instant::now();
        let (code, output) = run_command(login("admin", "wrong-secret"), command).await;
        assert_eq!(code, Some(78), "{command}: {output}");
        assert!(output.contains("rejected this client"), "{output}");
        assert!(started.elapsed() < EXIT_LIMIT, "{command}");
    });
    // The commands find the tables that the services have created by then.
    join_all(services).await;
    join_all(commands).await;

    let streamer = env.start(&login("admin", "admin-secret")).await;
    let (code, output) = run_command(login("admin", "admin-secret"), "status --json").await;
    assert_eq!(code, Some(0), "{output}");
    drop(streamer);
}
