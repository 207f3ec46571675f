//! Many partitions have a backlog, and all are read.

use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::support::test_env::{TestEnv, eventually, outgoing};

const PARTITIONS: i32 = 12;
/// Records of each partition, about 0.5 KiB each.
const RECORDS: i64 = 4_000;

/// All partitions have the same backlog, in batches larger than a partition's share of a response. When half of all records
/// are written, at least a quarter of each partition is.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_with_a_backlog_advance_together() {
    let env = TestEnv::new("backlog", PARTITIONS).await;
    let name = "x".repeat(20);
    let records: Vec<_> = (0..PARTITIONS)
        .flat_map(|partition| (0..RECORDS).map(move |_| partition))
        .map(|partition| ProducerRecord {
            partition: Some(partition),
            ..outgoing(Uuid::new_v4(), &name)
        })
        .collect();
    env.kafka.write(&env.topic, &records).await.unwrap();

    let options = env.options().set("cassandra.max_rows_per_second", "6000");
    let _streamer = env.start(&options).await;
    let half = RECORDS * i64::from(PARTITIONS) / 2;
    eventually("half of the records are written", async || {
        match env.checkpoint_sum().await {
            sum if sum >= half => Ok(()),
            sum => Err(format!("{sum} of {half}")),
        }
    })
    .await;
    let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    let next: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            checkpoints
                .get(&partition)
                .map_or(0, |checkpoint| checkpoint.next_offset)
        })
        .collect();
    assert!(
        next.iter().all(|written| written * 4 >= RECORDS),
        "written of each partition: {next:?}"
    );
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
}
