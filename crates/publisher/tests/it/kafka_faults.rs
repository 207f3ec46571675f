//! What Kafka itself refuses: strangers, writers without the right, too few replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use testkit::process::Program;
use testkit::servers::{KafkaCluster, KafkaOptions, Software, jars};

use crate::load::Load;
use crate::running::{Setup, answer, erase, setup};
use crate::topic::Topic;
use crate::users::{user, users};

const USERS: [(&str, &str); 3] = [
    ("admin", "admin-secret"),
    ("writer", "right-secret"),
    ("nobody", "no-secret"),
];

fn logging_in(setup: Setup, user: &str, password: &str) -> Setup {
    setup
        .with("KAFKA__PROPERTIES__SECURITY_PROTOCOL", "sasl_plaintext")
        .with("KAFKA__PROPERTIES__SASL_MECHANISMS", "PLAIN")
        .with("KAFKA__PROPERTIES__SASL_USERNAME", user)
        .with("KAFKA__PROPERTIES__SASL_PASSWORD", password)
}

/// Lets `writer` do `operation` on `topic`.
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
async fn who_is_not_let_in_by_kafka_hears_so_and_which_kind() {
    let kafka = KafkaCluster::start(&KafkaOptions::guarded(&USERS)).await.unwrap();
    kafka.create_topic("forbidden", 1).await.unwrap();
    kafka.create_topic("elsewhere", 1).await.unwrap();

    for (user, password, told) in [
        ("writer", "wrong-secret", "kafka refuses the credentials"),
        ("nobody", "no-secret", "authorization failed"),
    ] {
        let setup = logging_in(setup(&kafka.bootstrap(), "forbidden"), user, password);
        let child = setup.spawn();
        let ended = child.wait(Duration::from_secs(20)).await;
        let log = child.last_lines(20);
        assert_eq!(ended.ok().and_then(|status| status.code()), Some(78), "{log}");
        assert!(log.contains(told) && !log.contains("-secret"), "{log}");
    }

    allow(&kafka, "Describe", "forbidden").await;
    allow(&kafka, "Write", "elsewhere").await;
    let publisher = logging_in(setup(&kafka.bootstrap(), "forbidden"), "writer", "right-secret")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let user = user();
    let (status, body) = answer(publisher.post("application/json", user.to_string())).await;
    assert_eq!(status, 502, "{body}");
    assert_eq!(body["errors"][0]["id"], user["id"]);
    assert!(
        body["errors"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("does not let")
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
        .wait_until("let in", async || publisher.send(&users(1)).await.0 == 200)
        .await;
}

#[tokio::test]
async fn with_too_few_replicas_nothing_counts_as_written() {
    let options = KafkaOptions {
        nodes: 3,
        heap_mb: 384,
        properties: BTreeMap::new(),
        ..KafkaOptions::default()
    };
    let kafka = KafkaCluster::start(&options).await.unwrap();
    let topic = Topic::fresh(&kafka.bootstrap());
    let publisher = setup(&topic.brokers, &topic.name)
        .with("KAFKA__REPLICATION", "3")
        .with("KAFKA__MIN_INSYNC_REPLICAS", "3")
        .start()
        .await;
    publisher.wait_until_ready().await;
    let spare = Topic::fresh(&kafka.bootstrap());
    let content = setup(&spare.brokers, &spare.name)
        .with("KAFKA__REPLICATION", "3")
        .with("KAFKA__MIN_INSYNC_REPLICAS", "2")
        .start()
        .await;
    content.wait_until_ready().await;
    let mut load = Load::start(&publisher, 4);
    publisher
        .wait_until("at work", async || load.count(200) > 20)
        .await;
    kafka.node(2).unwrap().kill().await.unwrap();
    publisher
        .wait_until("told", async || {
            let reason = publisher.readiness().await.1["dependencies"][0]["reason"].clone();
            reason.to_string().contains("2 of 3 replicas in sync")
        })
        .await;
    assert_eq!(publisher.metric("kafka_up").await, 0.0);
    // Two brokers are up, which is enough for who asks for two.
    content
        .wait_until("taking records without the third", async || {
            content.send(&users(6)).await.0 == 200
        })
        .await;
    content.wait_until_ready().await;
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
    load.assert_no_answer_lied(&topic).await;
    publisher.wait_until_idle().await;
    assert_eq!(
        publisher.send(&users(2)).await,
        (200, json!({"accepted": 2, "rejected": 0}))
    );
}
