//! Groups that a streamer can't join, shares with other applications, or can't count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reqwest::StatusCode;
use testkit::service::{Service, ServiceOptions};

use crate::support::commands::{run_command, run_successfully, stop};
use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};

/// Another application in the group of the environment. It leaves on drop.
struct OtherMember {
    consumer: Arc<BaseConsumer>,
    left: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl OtherMember {
    fn config(env: &TestEnv) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", env.bootstrap())
            .set("client.id", "other-application")
            .set("group.id", &env.topic)
            .set("enable.auto.commit", "false");
        config
    }

    /// Joins the group and waits for an assignment.
    async fn join(env: &TestEnv, properties: &[(&str, &str)]) -> Self {
        let mut config = Self::config(env);
        for (name, value) in properties {
            config.set(*name, *value);
        }
        let consumer: Arc<BaseConsumer> = Arc::new(config.create().unwrap());
        consumer.subscribe(&[&env.topic]).unwrap();
        let (polled, left) = (Arc::clone(&consumer), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&left);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                drop(polled.poll(Duration::from_millis(100)));
            }
        });
        let member = Self {
            consumer,
            left,
            thread: Some(thread),
        };
        eventually("the other application holds a partition", async || {
            match member.consumer.assignment().unwrap().count() {
                0 => Err("none".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        member
    }
}

impl Drop for OtherMember {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        // A panic of the thread has failed the test already.
        drop(self.thread.take().map(JoinHandle::join));
        self.consumer.unsubscribe();
    }
}

/// Starts a streamer that can't join its group, and waits until readiness says that.
async fn start_outside_group(options: &ServiceOptions, error: &str) -> Service {
    let streamer = Service::start(options).unwrap();
    eventually("readiness reports the failed join", async || {
        let (status, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        if status == StatusCode::SERVICE_UNAVAILABLE && body.contains(error) {
            Ok(())
        } else {
            Err(format!("{status} {body}"))
        }
    })
    .await;
    // It is no moment between two attempts.
    for _ in 0..20 {
        let (status, body) = streamer.get("/readyz").await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(streamer.get("/healthz").await.unwrap().0, StatusCode::OK);
    streamer
}

#[tokio::test(flavor = "multi_thread")]
async fn session_below_the_brokers_minimum_fails_readiness() {
    let env = TestEnv::new("session", 1).await;
    let options = env.options().set("kafka.session_timeout", "500ms");
    let streamer = start_outside_group(&options, "JoinGroup failed").await;
    let lines = streamer.last_lines(1_000);
    assert!(lines.lines().count() < 20, "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_assignor_in_the_group_fails_readiness_until_it_leaves() {
    let env = TestEnv::new("assignor", 1).await;
    let other = OtherMember::join(&env, &[("partition.assignment.strategy", "roundrobin")]).await;
    let streamer = start_outside_group(&env.options(), "JoinGroup failed").await;
    drop(other);
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn member_of_another_kind_is_named_while_it_holds_partitions() {
    let env = TestEnv::new("foreign", 2).await;
    let other = OtherMember::join(&env, &[("partition.assignment.strategy", "range")]).await;
    let streamer = Service::start(&env.options()).unwrap();
    let is_named = async |expected: bool| {
        eventually("readiness names the member", async || {
            let (status, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
            let is_named = body.contains("`other-application`") && status == StatusCode::SERVICE_UNAVAILABLE;
            if is_named == expected { Ok(()) } else { Err(body) }
        })
        .await;
    };
    is_named(true).await;
    let output = run_successfully(&env, "status").await;
    assert!(
        output.contains("members: 2") && output.contains("not a streamer: other-application"),
        "{output}"
    );
    drop(other);
    is_named(false).await;
    streamer.wait_until_ready(DEADLINE).await.unwrap();
}

/// The classic requests don't list the members of a group in the protocol of KIP-848.
#[tokio::test(flavor = "multi_thread")]
async fn commands_refuse_a_group_whose_members_cannot_be_counted() {
    let env = TestEnv::new("uncountable", 1).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    let before = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    let other = OtherMember::join(&env, &[("group.protocol", "consumer")]).await;
    for command in [
        "replay --from-offset 0 --yes",
        "accept-table",
        "dead-letters reset-limits",
    ] {
        let (code, output) = run_command(env.options(), command).await;
        assert_eq!(code, Some(78), "{command}: {output}");
        assert!(output.contains("can't be counted"), "{command}: {output}");
    }
    let output = run_successfully(&env, "status").await;
    assert!(output.contains("members: unknown"), "{output}");
    drop(other);
    let after = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    assert_eq!(after, before);
}

/// The streamer reads from its own checkpoints. What another client commits in its group is for monitors only.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_committed_by_another_client_skip_no_record() {
    let env = TestEnv::new("committed", 2).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    stop(&mut streamer).await;
    env.write(&new_users(20)).await;
    let mut all_read = TopicPartitionList::new();
    for (partition, end) in env.kafka.end_offsets(&env.topic).await.unwrap() {
        all_read
            .add_partition_offset(&env.topic, partition, Offset::Offset(end))
            .unwrap();
    }
    let other: BaseConsumer = OtherMember::config(&env).create().unwrap();
    other.commit(&all_read, CommitMode::Sync).unwrap();
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    env.wait_until_caught_up().await;
    assert_eq!(env.users().await.len(), 25);
    env.assert_nothing_lost_or_rejected().await;
}
