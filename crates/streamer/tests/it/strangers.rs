//! A Kafka that asks who comes: a stranger hears so within seconds, whether he is the service or an operator.

use std::time::Duration;

use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::{Service, ServiceOptions};

use crate::commands::operate;
use crate::world::World;

const USERS: [(&str, &str); 2] = [("admin", "admin-secret"), ("nobody", "no-secret")];
/// Far below the waits for a server that is away.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn whom_kafka_does_not_let_in_hears_so_and_ends_with_78() {
    let world = World::bare("guarded").await;
    let kafka = KafkaCluster::lease(&KafkaOptions::sasl_plain(&USERS))
        .await
        .unwrap();
    let login = |user: &str, password: &str| -> ServiceOptions {
        world
            .options()
            .set("kafka.brokers", kafka.bootstrap())
            .set("kafka.properties.security_protocol", "sasl_plaintext")
            .set("kafka.properties.sasl_mechanisms", "PLAIN")
            .set("kafka.properties.sasl_username", user)
            .set("kafka.properties.sasl_password", password)
    };
    for (user, password, told) in [
        ("admin", "wrong-secret", "Authentication"),
        ("nobody", "no-secret", "uthorization"),
    ] {
        let streamer = Service::start(&login(user, password)).unwrap();
        let ended = streamer.wait(SOON).await;
        let log = streamer.last_lines(20);
        assert_eq!(ended.ok().flatten(), Some(78), "{log}");
        assert!(
            log.contains("rejected this client") && log.contains(told),
            "{log}"
        );
        assert!(!log.contains("-secret"), "{log}");
    }
    for command in [
        "status",
        "verify",
        "dead-letters list",
        "dead-letters reset-limits",
    ] {
        let started = std::time::Instant::now();
        let (code, output) = operate(login("admin", "wrong-secret"), command).await;
        assert_eq!(code, Some(78), "{command}: {output}");
        assert!(output.contains("rejected this client"), "{output}");
        assert!(started.elapsed() < SOON, "{command}");
    }

    let streamer = world.start(&login("admin", "admin-secret")).await;
    let (code, output) = operate(login("admin", "admin-secret"), "status --json").await;
    assert_eq!(code, Some(0), "{output}");
    drop(streamer);
}
