//! Refusals by Kafka: wrong credentials, missing ACLs, too few in-sync replicas.

use std::time::Duration;

use serde_json::json;
use testkit::certificates::CertificateAuthority;
use testkit::servers::pool::Access;
use testkit::servers::{AclOperation, KafkaCluster, KafkaOptions, KafkaResource, secured};
use testkit::service::{Service, ServiceOptions};
use uuid::Uuid;

use crate::support::load::Load;
use crate::support::publisher_process::{Publisher, erase, setup, status_and_body};
use crate::support::sample_users::{user, users};
use crate::support::topic::Topic;

/// Clients of the secured Kafka. Their names and the topics' are those of one test.
struct Clients {
    kafka: KafkaCluster,
    authority: CertificateAuthority,
    suffix: String,
}

impl Clients {
    async fn new() -> Self {
        let authority = secured::authority();
        Self {
            kafka: secured::kafka(&authority).await.unwrap(),
            authority,
            suffix: Uuid::new_v4().simple().to_string(),
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.suffix)
    }

    /// Configures a publisher of the topic `forbidden` with this login.
    fn setup(&self, user: &str, password: &str) -> ServiceOptions {
        setup(&self.kafka.bootstrap(), &self.name("forbidden"))
            .set("kafka.properties.security_protocol", "sasl_ssl")
            .set(
                "kafka.properties.ssl_ca_location",
                self.authority.file().display().to_string(),
            )
            .set("kafka.properties.sasl_mechanisms", "SCRAM-SHA-512")
            .set("kafka.properties.sasl_username", self.name(user))
            .set("kafka.properties.sasl_password", password)
    }

    /// Allows `operation` on `topic` to `writer`.
    async fn allow(&self, operation: AclOperation, topic: &str) {
        let right = (operation, KafkaResource::Topic(self.name(topic)));
        self.kafka.allow(&self.name("writer"), &[right]).await.unwrap();
    }
}

#[tokio::test]
async fn missing_access_to_kafka_exits_or_is_502() {
    let clients = Clients::new().await;
    for topic in ["forbidden", "elsewhere"] {
        clients.kafka.create_topic(&clients.name(topic), 1).await.unwrap();
    }
    for (user, password) in [("writer", "right-secret"), ("reader", "no-secret")] {
        clients
            .kafka
            .set_password(&clients.name(user), password)
            .await
            .unwrap();
    }

    for (user, password, expected) in [
        ("writer", "wrong-secret", "failed to get access to Kafka"),
        ("reader", "no-secret", "authorization failed"),
    ] {
        let publisher = Service::start(&clients.setup(user, password)).unwrap();
        let code = publisher.wait(Duration::from_secs(20)).await;
        let log = publisher.last_lines(20);
        assert_eq!(code.ok().flatten(), Some(78), "{log}");
        assert!(log.contains(expected) && !log.contains("-secret"), "{log}");
    }

    clients.allow(AclOperation::Describe, "forbidden").await;
    clients.allow(AclOperation::Write, "elsewhere").await;
    let publisher = Publisher::start(&clients.setup("writer", "right-secret")).await;
    publisher.wait_until_ready().await;
    let user = user();
    let (status, body) = status_and_body(publisher.post("application/json", user.to_string())).await;
    assert_eq!(status, 502, "{body}");
    assert_eq!(body["errors"][0]["id"], user["id"]);
    assert!(
        body["errors"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("not authorized to write")
    );
    assert_eq!(publisher.metric("records_total{outcome=\"refused\"}").await, 1.0);
    let (status, body) = erase(&publisher, user["id"].as_str().unwrap()).await;
    assert_eq!(
        (status, &body["rejected"]),
        (502, &json!(1)),
        "a tombstone is a record"
    );
    assert_eq!(publisher.metric("records_total{outcome=\"refused\"}").await, 2.0);
    assert_eq!(publisher.metric("requests_total{status=\"502\"}").await, 2.0);

    clients.allow(AclOperation::Write, "forbidden").await;
    publisher
        .wait_until("authorized", async || publisher.send(&users(1)).await.0 == 200)
        .await;
}

#[tokio::test]
async fn too_few_in_sync_replicas_reject_writes() {
    let kafka = KafkaCluster::lease(&KafkaOptions::three_nodes(), Access::Exclusive)
        .await
        .unwrap();
    let topic = Topic::new(&kafka.bootstrap());
    let publisher = Publisher::start(
        &setup(&topic.brokers, &topic.name)
            .set("kafka.replication", "3")
            .set("kafka.min_insync_replicas", "3"),
    )
    .await;
    publisher.wait_until_ready().await;
    let spare = Topic::new(&kafka.bootstrap());
    let tolerant = Publisher::start(
        &setup(&spare.brokers, &spare.name)
            .set("kafka.replication", "3")
            .set("kafka.min_insync_replicas", "2"),
    )
    .await;
    tolerant.wait_until_ready().await;
    let mut load = Load::start(&publisher, 4);
    publisher
        .wait_until("under load", async || load.count(200) > 20)
        .await;
    kafka.node(2).unwrap().kill().await.unwrap();
    publisher
        .wait_until("unready", async || {
            let reason = publisher.readiness().await.1["dependencies"][0]["reason"].clone();
            reason.to_string().contains("2 of 3 replicas in sync")
        })
        .await;
    assert_eq!(publisher.metric("kafka_up").await, 0.0);
    // Two brokers are enough for a topic with min.insync.replicas 2.
    tolerant
        .wait_until("accepting records with two brokers", async || {
            tolerant.send(&users(6)).await.0 == 200
        })
        .await;
    tolerant.wait_until_ready().await;
    let refused = load.count(503);
    publisher
        .wait_until("refusing", async || load.count(503) > refused + 10)
        .await;
    kafka.node(2).unwrap().start().await.unwrap();
    publisher.wait_until_ready().await;
    let accepted = load.count(200);
    publisher
        .wait_until("accepting", async || load.count(200) > accepted + 10)
        .await;
    load.stop().await;
    load.assert_responses_match_topic(&topic).await;
    publisher.wait_until_idle().await;
    assert_eq!(
        publisher.send(&users(2)).await,
        (200, json!({"accepted": 2, "rejected": 0}))
    );
}
