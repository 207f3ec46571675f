//! Members that join, leave, crash and freeze under traffic. Every record becomes a row, no checkpoint moves back, and a
//! zombie changes nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cdrs_tokio::types::ByName as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use testkit::people::text_columns;
use testkit::proxy::{Behavior, Flow, Proxy};
use testkit::seeded_random::SeededRandom;
use uuid::Uuid;

use crate::support::assignment::wait_for_even_assignment;
use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};
use crate::support::traffic::metric;

/// Samples the checkpoints while the membership changes.
#[derive(Default)]
struct CheckpointMonitor {
    samples: Cell<usize>,
    longest_pause: Cell<Duration>,
}

impl CheckpointMonitor {
    /// Samples the checkpoints until `work` is done, and checks that none moves back.
    async fn assert_monotonic<T>(&self, env: &TestEnv, work: impl Future<Output = T>) -> T {
        let done = Cell::new(false);
        let sampling = async {
            let mut seen: BTreeMap<i32, (i64, Instant)> = BTreeMap::new();
            while !done.get() {
                // The tables may not exist yet.
                let found = env.cassandra.checkpoints(&env.topic, &env.topic).await;
                for (partition, checkpoint) in found.unwrap_or_default() {
                    let now = (checkpoint.next_offset, Instant::now());
                    let before = *seen.entry(partition).or_insert(now);
                    assert!(
                        now.0 >= before.0,
                        "partition {partition} moved from {before:?} back to {checkpoint:?}"
                    );
                    let pause = now.1 - before.1;
                    self.longest_pause.set(self.longest_pause.get().max(pause));
                    if now.0 > before.0 {
                        seen.insert(partition, now);
                    }
                    self.samples.set(self.samples.get() + 1);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let work = async {
            let outcome = work.await;
            done.set(true);
            outcome
        };
        let (outcome, ()) = tokio::join!(work, sampling);
        assert!(self.samples.get() > 100, "only {} samples", self.samples.get());
        outcome
    }

    /// Returns the longest time without a checkpoint since the last call.
    fn take_longest_pause(&self) -> Duration {
        self.longest_pause.take()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_to_three_members_and_back_loses_nothing() {
    let env = TestEnv::new("scaled", 6).await;
    let one = env.streamer().await;
    let monitor = CheckpointMonitor::default();
    let scale = env.with_traffic(async {
        env.wait_for_current_ends().await;
        monitor.take_longest_pause();
        let mut two = env.start(&env.options().log_name("second")).await;
        wait_for_even_assignment(&[&one, &two], 6).await;
        env.wait_for_current_ends().await;
        let join = monitor.take_longest_pause();
        let mut three = env.start(&env.options().log_name("third")).await;
        wait_for_even_assignment(&[&one, &two, &three], 6).await;
        env.wait_for_current_ends().await;
        let second_join = monitor.take_longest_pause();
        assert_eq!(two.terminate(Duration::from_secs(25)).await.unwrap(), Some(0));
        wait_for_even_assignment(&[&one, &three], 6).await;
        env.wait_for_current_ends().await;
        let leave = monitor.take_longest_pause();
        three.kill().await.unwrap();
        wait_for_even_assignment(&[&one], 6).await;
        env.wait_for_current_ends().await;
        let kill = monitor.take_longest_pause();
        println!("longest pauses: join {join:?}, {second_join:?}; leave {leave:?}; kill {kill:?}");
        for pause in [join, second_join, leave] {
            assert!(
                pause < Duration::from_secs(6),
                "a member waited for a session timeout: {pause:?}"
            );
        }
        assert!(kill < Duration::from_secs(15), "{kill:?}");
    });
    monitor.assert_monotonic(&env, scale).await;
    env.assert_nothing_lost_or_rejected().await;
}

/// The pipeline of a member with a backlog is full when its partitions are revoked. No checkpoint may pass the records
/// that are dropped then.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_backlog_is_left_to_next_owner() {
    let env = TestEnv::new("backlog", 6).await;
    env.write(&new_users(30_000)).await;
    let slow = env.options().set("cassandra.max_rows_per_second", "1000");
    let mut members = vec![env.start(&slow).await];
    for name in ["second", "third"] {
        eventually("rows are written", async || {
            let rows = metric(&members[0], "streamer_rows_total", "").await;
            if rows > 500.0 {
                Ok(())
            } else {
                Err(rows.to_string())
            }
        })
        .await;
        members.push(env.start(&slow.clone().log_name(name)).await);
        let all: Vec<_> = members.iter().collect();
        wait_for_even_assignment(&all, 6).await;
    }
    let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    let passed: i64 = checkpoints
        .values()
        .map(|checkpoint| checkpoint.next_offset)
        .sum();
    assert!(
        passed < 29_000,
        "there was no backlog when the partitions were revoked"
    );
    env.assert_nothing_lost_or_rejected().await;
}

/// A member at its writer's capacity takes no records, and may lose its partitions meanwhile. After a reassignment they
/// must be read again.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_full_pipeline_are_read_after_reassignment() {
    let env = TestEnv::new("full", 6).await;
    let proxy = Proxy::start(env.node()).await.unwrap();
    let slow = env
        .options()
        .set("cassandra.contact_points", proxy.address().to_string())
        .set("kafka.revoke_timeout", "1s");
    let first = env.start(&slow).await;
    wait_for_even_assignment(&[&first], 6).await;
    proxy.set(Behavior::both(Flow::hold()));
    env.write(&new_users(20_000)).await;
    let log = env.folder().join("streamer.log");
    eventually("the pipeline is full", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains("the writer is at capacity") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    let second = env.start(&env.options().log_name("second")).await;
    eventually("the second member holds its partitions", async || {
        let held = metric(&second, "streamer_assigned_partitions", "").await;
        if held > 2.5 { Ok(()) } else { Err(held.to_string()) }
    })
    .await;
    proxy.set(Behavior::default());
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_members_are_ready_and_replace_killed_member() {
    let env = TestEnv::new("idle", 2).await;
    let mut members = Vec::new();
    for member in 0..4 {
        members.push(
            env.start(&env.options().log_name(format!("member{member}")))
                .await,
        );
    }
    let all: Vec<_> = members.iter().collect();
    wait_for_even_assignment(&all, 2).await;
    env.with_traffic(async {
        env.wait_for_current_ends().await;
        let mut holder = None;
        for (index, member) in members.iter().enumerate() {
            assert_eq!(member.get("/readyz").await.unwrap().0, 200);
            assert_eq!(member.get("/healthz").await.unwrap().0, 200);
            if metric(member, "streamer_assigned_partitions", "").await > 0.5 {
                holder = Some(index);
            }
        }
        members.remove(holder.unwrap()).kill().await.unwrap();
        let left: Vec<_> = members.iter().collect();
        wait_for_even_assignment(&left, 2).await;
        env.wait_for_current_ends().await;
    })
    .await;
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_are_read_from_start_within_30_s() {
    let env = TestEnv::new("grown", 2).await;
    let one = env.streamer().await;
    env.with_traffic(async {
        env.wait_for_current_ends().await;
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", env.bootstrap())
            .create()
            .unwrap();
        let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
        let added = Instant::now();
        for result in admin
            .create_partitions(&[NewPartitions::new(&env.topic, 5)], &options)
            .await
            .unwrap()
        {
            result.unwrap();
        }
        wait_for_even_assignment(&[&one], 5).await;
        println!("added partitions were found after {:?}", added.elapsed());
        assert!(added.elapsed() < Duration::from_secs(30), "{:?}", added.elapsed());
    })
    .await;
    // A producer with fresh metadata writes to all partitions. The new ones are read from their first offset.
    let users = new_users(300);
    let records: Vec<_> = users
        .iter()
        .map(|(id, name)| crate::support::test_env::outgoing(*id, name))
        .collect();
    env.fresh_kafka_client()
        .write(&env.topic, &records)
        .await
        .unwrap();
    let ends = env.kafka.end_offsets(&env.topic).await.unwrap();
    assert!(ends.len() == 5 && ends.values().all(|end| *end > 0), "{ends:?}");
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    let found = env.users().await;
    assert!(users.iter().all(|(id, _)| found.contains_key(id)));
}

/// Returns the write timestamps of all text columns of these rows.
async fn write_timestamps(env: &TestEnv, ids: &[Uuid]) -> BTreeMap<Uuid, Vec<Option<i64>>> {
    let names = text_columns();
    let columns: Vec<_> = names
        .iter()
        .map(|name| format!("WRITETIME({name}) AS {name}"))
        .collect();
    let columns = columns.join(", ");
    let mut times = BTreeMap::new();
    for ids in ids.chunks(200) {
        let list = ids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ");
        let query = format!("SELECT id, {columns} FROM {{ks}}.created_users WHERE id IN ({list})");
        for row in env.cassandra.run(&query).await.unwrap() {
            let found = names.iter().map(|name| row.by_name(name).unwrap());
            times.insert(row.by_name("id").unwrap().unwrap(), found.collect());
        }
    }
    times
}

/// A member is frozen while it writes, until after its session timeout. It wakes with old writes and checkpoints when its
/// partitions belong to another member.
#[tokio::test(flavor = "multi_thread")]
async fn thawed_zombie_changes_no_checkpoint_and_no_row() {
    let env = TestEnv::new("zombie", 6).await;
    let zombie = env.streamer().await;
    let users = new_users(3_000);
    let ids: Vec<_> = users.iter().map(|(id, _)| *id).collect();
    let scenario = async {
        env.write(&users).await;
        env.wait_until_caught_up().await;
        let frozen = AtomicBool::new(false);
        // Records come until the member is frozen, so that it is frozen while it writes.
        let write = async {
            for name in ["second", "third"] {
                let versions: Vec<_> = ids.iter().map(|id| (*id, name)).collect();
                env.write(&versions).await;
            }
            while !frozen.load(Ordering::Relaxed) {
                env.write(&new_users(5_000)).await;
            }
        };
        let freeze = async {
            let read = metric(&zombie, "streamer_records_total", "").await;
            eventually("the member reads records", async || {
                let now = metric(&zombie, "streamer_records_total", "").await;
                if now > read { Ok(()) } else { Err(format!("{now}")) }
            })
            .await;
            zombie.child().unwrap().freeze().await.unwrap();
            frozen.store(true, Ordering::Relaxed);
        };
        tokio::join!(write, freeze);
        let ends = env.kafka.end_offsets(&env.topic).await.unwrap();
        assert!(
            env.checkpoint_sum().await < ends.values().sum(),
            "the member was frozen after its last checkpoint"
        );
        let other = env.start(&env.options().log_name("other")).await;
        wait_for_even_assignment(&[&other], 6).await;
        env.wait_until_caught_up().await;
        // The other member writes newer versions than any in the zombie's memory.
        let versions: Vec<_> = ids.iter().map(|id| (*id, "last")).collect();
        env.write(&versions).await;
        env.wait_until_caught_up().await;
        let before = write_timestamps(&env, &ids).await;
        assert_eq!(before.len(), ids.len());

        zombie.child().unwrap().thaw().unwrap();
        wait_for_even_assignment(&[&zombie, &other], 6).await;
        env.write(&new_users(500)).await;
        env.wait_until_caught_up().await;
        let changed = write_timestamps(&env, &ids).await;
        let differing = before
            .iter()
            .filter(|(id, times)| changed.get(*id) != Some(times))
            .count();
        assert_eq!(differing, 0, "the zombie wrote rows");
        assert!(
            metric(&zombie, "streamer_rebalances_total", "lost").await > 0.0,
            "the zombie was never fenced"
        );
    };
    CheckpointMonitor::default()
        .assert_monotonic(&env, scenario)
        .await;
    env.assert_nothing_lost_or_rejected().await;
}

/// A member joins, leaves or is killed every one to four seconds, for two minutes. In a short run it is four times as
/// often, for 5 s.
#[tokio::test(flavor = "multi_thread")]
async fn membership_churn_loses_nothing() {
    let (duration, pause) = if testkit::workspace::is_full_test_run() {
        (Duration::from_secs(120), 1_000..4_000)
    } else {
        (Duration::from_secs(5), 250..1_000)
    };
    let env = TestEnv::new("churn", 6).await;
    let mut random = SeededRandom::new("membership_churn");
    let mut members: Vec<_> = Vec::new();
    for member in 0..3 {
        members.push(
            env.start(&env.options().log_name(format!("member{member}")))
                .await,
        );
    }
    let scenario = env.with_traffic(async {
        let started = Instant::now();
        let mut counts = BTreeMap::new();
        while started.elapsed() < duration {
            tokio::time::sleep(random.millis(pause.clone())).await;
            let member = &mut members[usize::try_from(random.number(0..3)).unwrap()];
            let change = if member.child().is_none() {
                member.spawn().unwrap();
                "joined"
            } else if random.number(0..3) > 0 {
                eventually("the member handles signals", async || {
                    member
                        .get("/healthz")
                        .await
                        .map(drop)
                        .map_err(|error| error.to_string())
                })
                .await;
                assert_eq!(member.terminate(Duration::from_secs(30)).await.unwrap(), Some(0));
                "left"
            } else {
                member.kill().await.unwrap();
                "killed"
            };
            *counts.entry(change).or_insert(0) += 1;
        }
        println!("in {duration:?}: {counts:?}");
        for member in &mut members {
            if member.child().is_none() {
                member.spawn().unwrap();
            }
            member.wait_until_ready(DEADLINE).await.unwrap();
        }
        let all: Vec<_> = members.iter().collect();
        wait_for_even_assignment(&all, 6).await;
        env.wait_for_current_ends().await;
    });
    CheckpointMonitor::default()
        .assert_monotonic(&env, scenario)
        .await;
    env.assert_nothing_lost_or_rejected().await;
}
