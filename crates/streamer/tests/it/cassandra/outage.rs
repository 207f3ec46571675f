//! A long outage of Cassandra with a growing backlog. Memory stays flat, the member keeps its partitions, and writes
//! resume within 3 s.

use std::time::{Duration, Instant};

use cdrs_tokio::types::ByName as _;
use testkit::service::Service;

use crate::support::assignment::{holds_partitions, wait_for_partitions};
use crate::support::secured_cassandra::{FrozenNode, exclusive_env};
use crate::support::test_env::{TestEnv, eventually, new_users};
use crate::support::traffic::{metric, wait_until_unready};

/// Maximum resident memory of the process, in bytes.
const MAX_RESIDENT: u64 = 64 * 1024 * 1024;
/// Maximum growth during the outage, in bytes. Allocators round up.
const MAX_GROWTH: u64 = 3 * 1024 * 1024;

/// 500,000 records wait while the node is frozen for 60 s, or 50,000 for 10 s in a short run.
#[tokio::test(flavor = "multi_thread")]
async fn cassandra_outage_keeps_memory_flat() {
    let (records, outage) = if testkit::workspace::is_full_test_run() {
        (500_000, Duration::from_secs(60))
    } else {
        (50_000, Duration::from_secs(10))
    };
    let env = exclusive_env("outage", 6).await;
    let streamer = env.start(&env.options()).await;
    wait_for_partitions(&streamer, 6.0).await;
    let assignments = metric(&streamer, "streamer_rebalances_total", "").await;

    let frozen = FrozenNode::new(env.server()).await;
    write_backlog(&env, records).await;
    let reason = wait_until_unready(&streamer).await;
    assert!(reason.contains("cassandra"), "{reason}");
    eventually("every buffer is full", async || {
        let log = streamer.last_lines(50);
        if log.contains("reading paused") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    // Each attempt on a new session frees memory and takes it again.
    let before = peak_resident(&streamer, outage / 2).await;
    let peak = peak_resident(&streamer, outage / 2).await;
    println!("{records} records waiting for {outage:?}: at most {before} bytes at first, then {peak}");
    assert!(peak < MAX_RESIDENT, "{peak} bytes");
    assert!(peak < before + MAX_GROWTH, "from {before} to {peak} bytes");
    assert_eq!(holds_partitions(&streamer, 6.0).await, Ok(()));
    assert!((metric(&streamer, "streamer_rebalances_total", "").await - assignments).abs() < f64::EPSILON);
    wait_until_unready(&streamer).await;

    drop(frozen);
    let thawed_at = Instant::now();
    eventually("the first row is written", async || {
        let rows = env
            .cassandra
            .run("SELECT id FROM {ks}.created_users LIMIT 1")
            .await;
        match rows {
            Ok(rows) if !rows.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let took = thawed_at.elapsed();
    println!("first row {took:?} after the thaw");
    assert!(took < Duration::from_secs(3), "{took:?}");
    wait_for_backlog(&env, i64::from(records)).await;
    assert_eq!(count_rows(&env).await, i64::from(records));
    env.assert_no_dead_letters().await;
    assert!((metric(&streamer, "streamer_rebalances_total", "").await - assignments).abs() < f64::EPSILON);
    assert!(resident(&streamer) < MAX_RESIDENT);
}

/// Waits until `records` records are checkpointed, at 2,000/s or more. Cassandra syncs each write before it replies.
async fn wait_for_backlog(env: &TestEnv, records: i64) {
    let deadline = Instant::now() + Duration::from_secs(records.unsigned_abs() / 2_000);
    loop {
        let read = env.checkpoint_sum().await;
        if read == records {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "only {read} of {records} are checkpointed"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Counts the rows by token range. A count of the whole table would exceed the server's timeout.
async fn count_rows(env: &TestEnv) -> i64 {
    const RANGES: i128 = 32;
    let mut rows = 0;
    for range in 0..RANGES {
        let from = i128::from(i64::MIN) + (1 << 64) / RANGES * range;
        let to = from + (1 << 64) / RANGES - 1;
        let count = format!(
            "SELECT COUNT(*) AS users FROM {{ks}}.created_users WHERE token(id) >= {from} AND token(id) <= {to}"
        );
        let found = env.cassandra.run(&count).await.unwrap();
        rows += found[0].by_name::<i64>("users").unwrap().unwrap();
    }
    rows
}

/// Writes `records` users.
async fn write_backlog(env: &TestEnv, records: i32) {
    const SLICE: i32 = 10_000;
    for _ in 0..records / SLICE {
        env.write(&new_users(usize::try_from(SLICE).unwrap())).await;
    }
}

/// Returns the highest resident memory of the process during `time`, in bytes.
async fn peak_resident(streamer: &Service, time: Duration) -> u64 {
    let started = Instant::now();
    let mut peak = 0;
    while started.elapsed() < time {
        peak = peak.max(resident(streamer));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    peak
}

/// Returns the resident memory of the process, in bytes.
fn resident(streamer: &Service) -> u64 {
    let pid = streamer.child().unwrap().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}
