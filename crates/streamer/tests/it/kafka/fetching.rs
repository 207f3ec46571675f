//! How the partitions of a backlog share the consumer.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::kafka_client::ProducerRecord;
use testkit::service::Service;

use crate::support::test_env::{TestEnv, new_users, outgoing};

const PARTITIONS: i32 = 48;
/// Records of each partition.
const RECORDS: u32 = 600;

/// Writes the same number of records to each partition.
async fn write_backlog(env: &TestEnv) {
    for partition in 0..PARTITIONS {
        let users = new_users(usize::try_from(RECORDS).unwrap());
        let records = users.into_iter().map(|(id, name)| ProducerRecord {
            partition: Some(partition),
            ..outgoing(id, name)
        });
        let records: Vec<_> = records.collect();
        env.kafka.write(&env.topic, &records).await.unwrap();
    }
}

/// Returns the checkpoint of each partition, as the streamer's metrics have it.
async fn checkpoints(streamer: &Service) -> BTreeMap<i32, f64> {
    let (_, metrics) = streamer.get("/metrics").await.unwrap();
    let checkpoint = |line: &str| {
        let series = line.strip_prefix("streamer_checkpoint_offset{partition=\"")?;
        let (partition, offset) = series.split_once("\"} ")?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    metrics.lines().filter_map(checkpoint).collect()
}

/// With batches of the publisher's size, no partition of a backlog waits until others are read.
#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_progress_evenly() {
    let env = TestEnv::new("even", PARTITIONS).await;
    write_backlog(&env).await;
    // Slower than Kafka, so that the buffer is always full.
    let options = env.options().set("cassandra.max_rows_per_second", "4000");
    let streamer = env.start(&options).await;
    let all = f64::from(PARTITIONS) * f64::from(RECORDS);
    let (mut read, mut compared) = (0.0, 0);
    while read < all {
        let checkpoints = checkpoints(&streamer).await;
        read = checkpoints.values().sum();
        if (0.2 * all..0.6 * all).contains(&read) {
            compared += 1;
            let mean = read / f64::from(PARTITIONS);
            let least = checkpoints.values().copied().fold(f64::INFINITY, f64::min);
            assert!(least >= 0.5 * mean, "the mean is {mean}: {checkpoints:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(compared > 0, "the backlog was read too fast for this test");
    env.assert_nothing_lost_or_rejected().await;
}
