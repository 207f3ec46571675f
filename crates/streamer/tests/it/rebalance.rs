//! Members that come, go, die and freeze while records flow: every record becomes its row, no checkpoint ever moves back,
//! and a zombie changes nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cdrs_tokio::types::ByName as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use testkit::cassandra_client::TEXT_COLUMNS;
use testkit::proxy::{Behavior, Flow, Proxy};
use testkit::service::Service;
use uuid::Uuid;

use crate::chance::Chance;
use crate::extent;
use crate::flow::metric;
use crate::world::{DEADLINE, World, eventually, people};

/// Waits until the members hold all partitions, each as many as another, or one more.
pub(crate) async fn share(members: &[&Service], partitions: usize) {
    eventually("the partitions are shared", async || {
        let mut held = Vec::new();
        for member in members {
            let found = member.metric("streamer_assigned_partitions", "").await;
            held.push(found.map_err(|error| error.to_string())?.unwrap_or(0.0));
        }
        let evenly = held
            .iter()
            .all(|some| held.iter().all(|other| (some - other).abs() < 1.5));
        if evenly && (held.iter().sum::<f64>() - partitions as f64).abs() < f64::EPSILON {
            Ok(())
        } else {
            Err(format!("{held:?}"))
        }
    })
    .await;
}

/// What is seen of the checkpoints while something happens to the members.
#[derive(Default)]
struct Watch {
    samples: Cell<usize>,
    longest_pause: Cell<Duration>,
}

impl Watch {
    /// Samples every checkpoint until `work` is done: none ever moves back.
    async fn no_checkpoint_moves_back<T>(&self, world: &World, work: impl Future<Output = T>) -> T {
        let done = Cell::new(false);
        let sampling = async {
            let mut seen: BTreeMap<i32, (i64, Instant)> = BTreeMap::new();
            while !done.get() {
                // The tables may not be there yet.
                let found = world.table.checkpoints(&world.topic, &world.topic).await;
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

    /// The longest that a checkpoint has stood still since it was asked last.
    fn pause(&self) -> Duration {
        self.longest_pause.take()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_to_three_members_and_back_while_records_flow() {
    let world = World::new("scaled", 6).await;
    let one = world.streamer().await;
    let watch = Watch::default();
    let scale = world.while_records_flow(async {
        world.goes_on().await;
        watch.pause();
        let mut two = world.start(&world.options().log_name("second")).await;
        share(&[&one, &two], 6).await;
        world.goes_on().await;
        let join = watch.pause();
        let mut three = world.start(&world.options().log_name("third")).await;
        share(&[&one, &two, &three], 6).await;
        world.goes_on().await;
        let second_join = watch.pause();
        assert_eq!(two.terminate(Duration::from_secs(25)).await.unwrap(), Some(0));
        share(&[&one, &three], 6).await;
        world.goes_on().await;
        let leave = watch.pause();
        three.kill().await.unwrap();
        share(&[&one], 6).await;
        world.goes_on().await;
        let kill = watch.pause();
        println!("longest pauses: join {join:?}, {second_join:?}; leave {leave:?}; kill {kill:?}");
        for pause in [join, second_join, leave] {
            assert!(
                pause < Duration::from_secs(6),
                "nobody had to wait for a session to end"
            );
        }
        assert!(kill < Duration::from_secs(15), "{kill:?}");
    });
    watch.no_checkpoint_moves_back(&world, scale).await;
    world.nothing_is_lost_or_refused().await;
}

/// At a revocation the pipeline of a member with a backlog is full: of what is dropped then, nothing may be passed over by
/// what had been read after it (law: every row is its user's last record).
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_inside_a_member_when_its_partitions_are_revoked_is_left_to_their_next_owner() {
    let world = World::new("backlog", 6).await;
    world.write(&people(30_000)).await;
    let slow = world.options().set("cassandra.max_rows_per_second", "1000");
    let mut members = vec![world.start(&slow).await];
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
        members.push(world.start(&slow.clone().log_name(name)).await);
        let all: Vec<_> = members.iter().collect();
        share(&all, 6).await;
    }
    let checkpoints = world.table.checkpoints(&world.topic, &world.topic).await.unwrap();
    let passed: i64 = checkpoints
        .values()
        .map(|checkpoint| checkpoint.next_offset)
        .sum();
    assert!(
        passed < 29_000,
        "nothing waited when the partitions changed hands"
    );
    world.nothing_is_lost_or_refused().await;
}

/// A member that waits for its writer pauses its partitions, and may lose them in that state. What comes back to it is to be
/// read (laws of the fault campaign: `nothing_is_skipped`, `checkpoint_is_end`).
#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_were_paused_when_they_were_revoked_are_read_when_they_come_back() {
    let world = World::new("paused", 6).await;
    let proxy = Proxy::start(world.node()).await.unwrap();
    let behind = world
        .options()
        .set("cassandra.contact_points", proxy.address().to_string())
        .set("kafka.revoke_timeout", "1s");
    let first = world.start(&behind).await;
    share(&[&first], 6).await;
    proxy.set(Behavior::both(Flow::hold()));
    world.write(&people(20_000)).await;
    let log = world.folder().join("streamer.log");
    eventually("its partitions are paused", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains("the writer is at capacity") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    let second = world.start(&world.options().log_name("second")).await;
    eventually("the second has its share", async || {
        let held = metric(&second, "streamer_assigned_partitions", "").await;
        if held > 2.5 { Ok(()) } else { Err(held.to_string()) }
    })
    .await;
    proxy.set(Behavior::default());
    world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_without_a_partition_are_ready_and_take_over_from_one_that_is_killed() {
    let world = World::new("spare", 2).await;
    let mut members = Vec::new();
    for member in 0..4 {
        members.push(
            world
                .start(&world.options().log_name(format!("member{member}")))
                .await,
        );
    }
    let all: Vec<_> = members.iter().collect();
    share(&all, 2).await;
    world
        .while_records_flow(async {
            world.goes_on().await;
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
            share(&left, 2).await;
            world.goes_on().await;
        })
        .await;
    world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_while_it_runs_are_read_within_30_s_from_their_beginning() {
    let world = World::new("grown", 2).await;
    let one = world.streamer().await;
    world
        .while_records_flow(async {
            world.goes_on().await;
            let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
                .set("bootstrap.servers", world.bootstrap())
                .create()
                .unwrap();
            let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
            let added = Instant::now();
            for result in admin
                .create_partitions(&[NewPartitions::new(&world.topic, 5)], &options)
                .await
                .unwrap()
            {
                result.unwrap();
            }
            share(&[&one], 5).await;
            println!("added partitions were found after {:?}", added.elapsed());
            assert!(added.elapsed() < Duration::from_secs(30), "{:?}", added.elapsed());
        })
        .await;
    // A producer that knows them writes to all of them, and what they hold from their first offset on is read.
    let users = people(300);
    let records: Vec<_> = users
        .iter()
        .map(|(id, name)| crate::world::outgoing(*id, name))
        .collect();
    world.tap_anew().write(&world.topic, &records).await.unwrap();
    let ends = world.tap.end_offsets(&world.topic).await.unwrap();
    assert!(ends.len() == 5 && ends.values().all(|end| *end > 0), "{ends:?}");
    world.caught_up().await;
    world.nothing_is_refused().await;
    let found = world.users().await;
    assert!(users.iter().all(|(id, _)| found.contains_key(id)));
}

/// The write timestamps of every text column of these rows.
async fn write_times(world: &World, ids: &[Uuid]) -> BTreeMap<Uuid, Vec<Option<i64>>> {
    let columns = TEXT_COLUMNS
        .map(|column| format!("WRITETIME({column}) AS {column}"))
        .join(", ");
    let mut times = BTreeMap::new();
    for ids in ids.chunks(200) {
        let list = ids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ");
        let ask = format!("SELECT id, {columns} FROM {{ks}}.created_users WHERE id IN ({list})");
        for row in world.table.run(&ask).await.unwrap() {
            let found = TEXT_COLUMNS.map(|column| row.by_name(column).unwrap()).to_vec();
            times.insert(row.by_name("id").unwrap().unwrap(), found);
        }
    }
    times
}

/// Frozen in the middle of its work, past its session; its partitions are another's when it wakes up with writes and
/// checkpoints of then in its hands.
#[tokio::test(flavor = "multi_thread")]
async fn a_thawed_zombie_moves_no_checkpoint_back_and_changes_no_row() {
    let world = World::new("zombie", 6).await;
    let zombie = world.streamer().await;
    let (held, records) = (people(3_000), people(20_000));
    let ids: Vec<_> = held.iter().map(|(id, _)| *id).collect();
    let scene = async {
        world.write(&held).await;
        world.caught_up().await;
        // Several versions of each, and much else, so that it is frozen while it writes.
        let write = async {
            for name in ["second", "third"] {
                let versions: Vec<_> = ids.iter().map(|id| (*id, name)).collect();
                world.write(&versions).await;
            }
            world.write(&records).await;
        };
        let freeze = async {
            let read = metric(&zombie, "streamer_records_total", "").await;
            eventually("it is in the middle of its work", async || {
                let now = metric(&zombie, "streamer_records_total", "").await;
                if now > read { Ok(()) } else { Err(format!("{now}")) }
            })
            .await;
            zombie.child().unwrap().freeze().await.unwrap();
        };
        tokio::join!(write, freeze);
        let ends = world.tap.end_offsets(&world.topic).await.unwrap();
        assert!(
            world.checkpointed().await < ends.values().sum(),
            "it was frozen too late to be a zombie"
        );
        let other = world.start(&world.options().log_name("other")).await;
        share(&[&other], 6).await;
        world.caught_up().await;
        // What the other writes after it has taken over: newer versions than any that the zombie holds.
        let versions: Vec<_> = ids.iter().map(|id| (*id, "last")).collect();
        world.write(&versions).await;
        world.caught_up().await;
        let before = write_times(&world, &ids).await;
        assert_eq!(before.len(), ids.len());

        zombie.child().unwrap().thaw().unwrap();
        share(&[&zombie, &other], 6).await;
        world.write(&people(500)).await;
        world.caught_up().await;
        let changed = write_times(&world, &ids).await;
        let differing = before
            .iter()
            .filter(|(id, times)| changed.get(*id) != Some(times))
            .count();
        assert_eq!(differing, 0, "rows were written by the zombie");
        assert!(
            metric(&zombie, "streamer_rebalances_total", "lost").await > 0.0,
            "it was never fenced"
        );
    };
    Watch::default().no_checkpoint_moves_back(&world, scene).await;
    world.nothing_is_lost_or_refused().await;
}

/// Every one to four seconds a member joins, leaves or is killed, for two minutes; in CI (`CI` set and
/// `AFFLUENT_TEST_FULL` not) for 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_members_loses_nothing() {
    let storm = Duration::from_secs(if extent::is_full() { 120 } else { 30 });
    let world = World::new("storm", 6).await;
    let mut chance = Chance::new("a_storm_of_members");
    let mut members: Vec<_> = Vec::new();
    for member in 0..3 {
        members.push(
            world
                .start(&world.options().log_name(format!("member{member}")))
                .await,
        );
    }
    let scene = world.while_records_flow(async {
        let started = Instant::now();
        let mut counts = BTreeMap::new();
        while started.elapsed() < storm {
            tokio::time::sleep(chance.millis(1_000..4_000)).await;
            let member = &mut members[usize::try_from(chance.number(0..3)).unwrap()];
            let what = if member.child().is_none() {
                member.spawn().unwrap();
                "joined"
            } else if chance.number(0..3) > 0 {
                assert_eq!(member.terminate(Duration::from_secs(30)).await.unwrap(), Some(0));
                "left"
            } else {
                member.kill().await.unwrap();
                "killed"
            };
            *counts.entry(what).or_insert(0) += 1;
        }
        println!("in {storm:?}: {counts:?}");
        for member in &mut members {
            if member.child().is_none() {
                member.spawn().unwrap();
            }
            member.wait_until_ready(DEADLINE).await.unwrap();
        }
        let all: Vec<_> = members.iter().collect();
        share(&all, 6).await;
        world.goes_on().await;
    });
    Watch::default().no_checkpoint_moves_back(&world, scene).await;
    world.nothing_is_lost_or_refused().await;
}
