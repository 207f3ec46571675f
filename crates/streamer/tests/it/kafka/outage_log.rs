//! What an outage of Kafka and a burst of dead letters write to the log.

use std::time::Duration;

use testkit::kafka_client::{KafkaClient, ProducerRecord};
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::Service;

use crate::support::test_env::{DEADLINE, TestEnv, new_users};

/// Dead letters that are logged in a minute.
const MAX_LOGGED: usize = 10;

fn garbage(count: usize) -> Vec<ProducerRecord> {
    let record = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    };
    vec![record; count]
}

fn log_lines(streamer: &Service) -> Vec<String> {
    streamer.last_lines(10_000).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_of_kafka_is_logged_once_and_its_end_once() {
    let cluster = KafkaCluster::lease(&KafkaOptions::default(), Access::Exclusive)
        .await
        .unwrap();
    let mut env = TestEnv::without_topic("quiet").await;
    env.kafka = KafkaClient::new(cluster.bootstrap()).unwrap();
    cluster.create_topic(&env.topic, 3).await.unwrap();
    let options = env.options().set("kafka.brokers", cluster.bootstrap());
    let streamer = env.start(&options).await;
    // The producer of dead letters is connected, too.
    env.kafka.write(&env.topic, &garbage(1)).await.unwrap();
    env.write(&new_users(10)).await;
    env.wait_until_caught_up().await;
    let before = log_lines(&streamer).len();
    let broker = cluster.node(0).unwrap();
    broker.kill().await.unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    broker.start().await.unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.write(&new_users(10)).await;
    env.wait_until_caught_up().await;
    let lines = log_lines(&streamer).split_off(before);
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("dependency not ready"), 1, "{lines:#?}");
    assert_eq!(count("dependency ready"), 1, "{lines:#?}");
    // A session that expired meanwhile adds the lines of a rebalance.
    let is_rebalance = |line: &&String| line.contains("pipeline::assignment");
    let others: Vec<_> = lines.iter().filter(|line| !is_rebalance(line)).collect();
    assert_eq!(others.len(), 2, "{others:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_logged_without_values_up_to_a_limit() {
    let env = TestEnv::new("logged", 1).await;
    let streamer = env.streamer().await;
    env.kafka
        .write(&env.topic, &garbage(MAX_LOGGED + 15))
        .await
        .unwrap();
    env.wait_until_caught_up().await;
    let lines = log_lines(&streamer);
    let letters: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("record is a dead letter"))
        .collect();
    assert_eq!(letters.len(), MAX_LOGGED, "{lines:#?}");
    for letter in letters {
        assert!(
            letter.contains("partition=0") && letter.contains("offset=") && letter.contains("malformed"),
            "{letter}"
        );
    }
    assert!(!lines.iter().any(|line| line.contains("garbage")), "{lines:#?}");
}
