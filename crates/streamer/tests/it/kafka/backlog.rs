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
    write_backlog(&env, PARTITIONS, RECORDS, &"x".repeat(20)).await;
    let options = env.options().set("cassandra.max_rows_per_second", "6000");
    let _streamer = env.start(&options).await;
    let next = written_of_each(&env, PARTITIONS, RECORDS * i64::from(PARTITIONS) / 2).await;
    assert!(
        next.iter().all(|written| written * 4 >= RECORDS),
        "written of each partition: {next:?}"
    );
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
}

/// A micro-batch takes most of a second, so the pipeline is full nearly always. It has begun with the records that arrived
/// first, at most 350 of one partition. After them the partitions advance alike.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_slow_writer_advance_together() {
    let env = TestEnv::new("slow_backlog", 3).await;
    write_backlog(&env, 3, 1_000, "x").await;
    let options = env
        .options()
        .set("cassandra.max_rows_per_second", "60")
        .set("batch.max_rows", "50")
        .set("batch.max_in_flight", "1");
    let _streamer = env.start(&options).await;
    let first = written_of_each(&env, 3, 400).await;
    let second = written_of_each(&env, 3, first.iter().sum::<i64>() + 300).await;
    let advance: Vec<_> = second
        .iter()
        .zip(&first)
        .map(|(second, first)| second - first)
        .collect();
    let all: i64 = advance.iter().sum();
    assert!(
        advance.iter().all(|advance| 4 * advance >= all),
        "from {first:?} to {second:?}"
    );
}

async fn write_backlog(env: &TestEnv, partitions: i32, records: i64, name: &str) {
    let records: Vec<_> = (0..partitions)
        .flat_map(|partition| (0..records).map(move |_| partition))
        .map(|partition| ProducerRecord {
            partition: Some(partition),
            ..outgoing(Uuid::new_v4(), name)
        })
        .collect();
    env.kafka.write(&env.topic, &records).await.unwrap();
}

/// Returns the records of each partition that are written once `all` are.
async fn written_of_each(env: &TestEnv, partitions: i32, all: i64) -> Vec<i64> {
    eventually("a part of the records is written", async || {
        match env.checkpoint_sum().await {
            sum if sum >= all => Ok(()),
            sum => Err(format!("{sum} of {all}")),
        }
    })
    .await;
    let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    let next = |partition| {
        checkpoints
            .get(&partition)
            .map_or(0, |checkpoint| checkpoint.next_offset)
    };
    (0..partitions).map(next).collect()
}
