//! Cassandra is away for long while a backlog grows: memory stays flat, the member keeps its partitions, and it goes on at
//! once when Cassandra is back.

use std::time::{Duration, Instant};

use cdrs_tokio::types::ByName as _;
use testkit::service::Service;

use crate::extent;
use crate::flow::{metric, turns_unready};
use crate::guarded::{Frozen, alone};
use crate::world::{World, eventually, people};

/// What a process of one window, one batch and a few buffers may hold at most.
const MOST_MEMORY: u64 = 64 * 1024 * 1024;
/// Allocators round up.
const FLAT: u64 = 3 * 1024 * 1024;

/// 500,000 records wait while the node is frozen for 60 s; in CI 100,000 for 20 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_cassandra_costs_neither_memory_nor_partitions_and_ends_within_3_s() {
    let (records, outage) = if extent::is_full() {
        (500_000, Duration::from_secs(60))
    } else {
        (100_000, Duration::from_secs(20))
    };
    let world = alone("outage", 6).await;
    let streamer = world.start(&world.options()).await;
    eventually("it holds all partitions", async || holds(&streamer, 6.0).await).await;
    let assignments = metric(&streamer, "streamer_rebalances_total", "").await;

    let frozen = Frozen::new(world.server()).await;
    let since = Instant::now();
    fill(&world, records).await;
    let reason = turns_unready(&streamer).await;
    assert!(reason.contains("cassandra"), "{reason}");
    // By now every buffer is full: it has had the time to read as much as it ever will.
    tokio::time::sleep((outage / 4).saturating_sub(since.elapsed())).await;
    let before = resident(&streamer);
    let mut most = before;
    while since.elapsed() < outage {
        tokio::time::sleep(Duration::from_millis(500)).await;
        most = most.max(resident(&streamer));
    }
    println!("{records} records waiting for {outage:?}: resident {before} bytes, at most {most}");
    assert!(most < MOST_MEMORY, "{most} bytes");
    assert!(most < before + FLAT, "from {before} to {most} bytes");
    assert_eq!(holds(&streamer, 6.0).await, Ok(()));
    assert!((metric(&streamer, "streamer_rebalances_total", "").await - assignments).abs() < f64::EPSILON);
    turns_unready(&streamer).await;

    drop(frozen);
    let back = Instant::now();
    eventually("the first row is written", async || {
        let rows = world.table.run("SELECT id FROM {ks}.created_users LIMIT 1").await;
        match rows {
            Ok(rows) if !rows.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let took = back.elapsed();
    println!("the first row came {took:?} after the thaw");
    assert!(took < Duration::from_secs(3), "{took:?}");
    drains(&world, i64::from(records)).await;
    assert_eq!(rows(&world).await, i64::from(records));
    world.nothing_is_refused().await;
    assert!((metric(&streamer, "streamer_rebalances_total", "").await - assignments).abs() < f64::EPSILON);
    assert!(resident(&streamer) < MOST_MEMORY);
}

/// Waits until so many records are checkpointed: at 2,000/s at least, for each write is on disk before it is acknowledged.
async fn drains(world: &World, records: i64) {
    let until = Instant::now() + Duration::from_secs(records.unsigned_abs() / 2_000);
    loop {
        let read = world.checkpointed().await;
        if read == records {
            return;
        }
        assert!(
            Instant::now() < until,
            "only {read} of {records} are checkpointed"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How many rows there are, counted piece by piece: the whole would take longer than the server allows.
async fn rows(world: &World) -> i64 {
    const PIECES: i128 = 32;
    let mut rows = 0;
    for piece in 0..PIECES {
        let from = i128::from(i64::MIN) + (1 << 64) / PIECES * piece;
        let to = from + (1 << 64) / PIECES - 1;
        let count = format!(
            "SELECT COUNT(*) AS users FROM {{ks}}.created_users WHERE token(id) >= {from} AND token(id) <= {to}"
        );
        let found = world.table.run(&count).await.unwrap();
        rows += found[0].by_name::<i64>("users").unwrap().unwrap();
    }
    rows
}

async fn fill(world: &World, records: i32) {
    const SLICE: i32 = 10_000;
    for _ in 0..records / SLICE {
        world.write(&people(usize::try_from(SLICE).unwrap())).await;
    }
}

async fn holds(streamer: &Service, partitions: f64) -> Result<(), String> {
    let held = streamer
        .metric("streamer_assigned_partitions", "")
        .await
        .map_err(|error| error.to_string())?;
    if held == Some(partitions) {
        Ok(())
    } else {
        Err(format!("{held:?}"))
    }
}

/// What the process has in memory, in bytes.
fn resident(streamer: &Service) -> u64 {
    let pid = streamer.child().unwrap().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}
