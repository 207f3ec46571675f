//! Refusals by Kafka: wrong credentials, missing ACLs, too few in-sync replicas.

use std::time::Duration;

use serde_json::json;
use testkit::process::Program;
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions, Software, jars};

use crate::support::harness::{Setup, erase, setup, status_and_body};
use crate::support::load::Load;
use crate::support::sample_users::{user, users};
use crate::support::topic::Topic;

fn with_login(setup: Setup, user: &str, password: &str) -> Setup {
    setup
        .with("KAFKA__PROPERTIES__SECURITY_PROTOCOL", "sasl_plaintext")
        .with("KAFKA__PROPERTIES__SASL_MECHANISMS", "PLAIN")
        .with("KAFKA__PROPERTIES__SASL_USERNAME", user)
        .with("KAFKA__PROPERTIES__SASL_PASSWORD", password)
}

/// Adds an ACL that allows `operation` on `topic` to `writer`.
async fn allow(kafka: &KafkaCluster, operation: &str, topic: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (login, log) = (folder.path().join("login"), folder.path().join("log"));
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" \
                password=\"admin-secret\";";
    let properties =
        format!("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={jaas}\n");
    std::fs::write(&login, properties).unwrap();
    let classes = format!("{}/*", jars(Software::KAFKA).await.unwrap().display());
    let tool = Program::new("java")
        .args(["-Xmx128m", "-cp", &classes, "org.apache.kafka.tools.AclCommand"])
        .args(["--bootstrap-server", &kafka.bootstrap(), "--command-config"])
        .arg(&login)
        .args(["--add", "--allow-principal", "User:writer"])
        .args(["--operation", operation, "--topic", topic])
        .log_to(&log);
    let child = tool.spawn().unwrap();
    let status = child.wait(Duration::from_secs(60)).await.unwrap();
    assert!(status.success(), "{}", child.last_lines(20));
}

#[tokio::test]
async fn missing_access_to_kafka_exits_or_is_502() {
    let kafka = KafkaCluster::lease(&KafkaOptions::sasl_plain(), Access::Exclusive)
        .await
        .unwrap();
    kafka.create_topic("forbidden", 1).await.unwrap();
    kafka.create_topic("elsewhere", 1).await.unwrap();

    for (user, password, expected) in [
        ("writer", "wrong-secret", "failed to get access to Kafka"),
        ("reader", "no-secret", "authorization failed"),
    ] {
        let setup = with_login(setup(&kafka.bootstrap(), "forbidden"), user, password);
        let child = setup.spawn();
        let ended = child.wait(Duration::from_secs(20)).await;
        let log = child.last_lines(20);
        assert_eq!(ended.ok().and_then(|status| status.code()), Some(78), "{log}");
        assert!(log.contains(expected) && !log.contains("-secret"), "{log}");
    }

    allow(&kafka, "Describe", "forbidden").await;
    allow(&kafka, "Write", "elsewhere").await;
    let publisher = with_login(setup(&kafka.bootstrap(), "forbidden"), "writer", "right-secret")
        .start()
        .await;
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

    allow(&kafka, "Write", "forbidden").await;
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
    let publisher = setup(&topic.brokers, &topic.name)
        .with("KAFKA__REPLICATION", "3")
        .with("KAFKA__MIN_INSYNC_REPLICAS", "3")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let spare = Topic::new(&kafka.bootstrap());
    let tolerant = setup(&spare.brokers, &spare.name)
        .with("KAFKA__REPLICATION", "3")
        .with("KAFKA__MIN_INSYNC_REPLICAS", "2")
        .start()
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
