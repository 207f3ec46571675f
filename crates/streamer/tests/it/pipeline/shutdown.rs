//! Shutdowns, crashes and failed starts. No acknowledged record is lost, and none starts over.

use std::cell::Cell;
use std::time::{Duration, Instant};

use testkit::seeded_random::SeededRandom;
use testkit::service::{Service, ServiceOptions};

use crate::support::test_env::{DEADLINE, KILLED_SESSION, TestEnv, new_users};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_writes_pending_records_and_exits_0() {
    let env = TestEnv::new("sigterm", 3).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(20_000)).await;
    env.wait_for_rows(&streamer).await;
    let started = Instant::now();
    assert_eq!(
        streamer.terminate(Duration::from_secs(25)).await.unwrap(),
        Some(0),
        "{}",
        streamer.last_lines(10)
    );
    assert!(started.elapsed() < Duration::from_secs(25));
    let read = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
    let read: i64 = read.values().map(|checkpoint| checkpoint.next_offset).sum();
    let rows = env.cassandra.count().await.unwrap();
    assert_eq!(rows, read, "rows and checkpoints differ");
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
}

/// Ten kills at random times under continuous traffic, each with records that are not checkpointed.
#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load_lose_nothing() {
    const TEST_LIMIT: Duration = Duration::from_secs(240);
    let (kills, feed) = if testkit::workspace::is_full_test_run() {
        (10, Duration::from_secs(60))
    } else {
        (2, Duration::ZERO)
    };
    let env = TestEnv::new("kills", 6).await;
    let options = env.options().set("kafka.session_timeout", KILLED_SESSION);
    let mut streamer = env.start(&options).await;
    let mut random = SeededRandom::new("kills");
    let (done, written) = (Cell::new(false), Cell::new(0));
    let writes = async {
        let started = Instant::now();
        while !done.get() || started.elapsed() < feed {
            // More often than checkpoints are written, so that some records are always after the checkpoint.
            let next = tokio::time::Instant::now() + Duration::from_millis(40);
            env.write(&new_users(20)).await;
            written.set(written.get() + 20);
            tokio::time::sleep_until(next).await;
        }
    };
    let killing = async {
        let (mut read, mut again, mut lags) = (0.0, 0, Vec::new());
        while lags.len() < kills {
            env.wait_for_rows(&streamer).await;
            tokio::time::sleep(random.millis(0..1_000)).await;
            let records = streamer.metric("streamer_records_total", "").await.unwrap();
            read += records.unwrap_or(0.0);
            while env.checkpoint_sum().await >= written.get() {}
            let acknowledged = written.get();
            streamer.kill().await.unwrap();
            // Records in Kafka before the kill and after the checkpoint could be lost.
            let lag = acknowledged - env.checkpoint_sum().await;
            again += lag;
            if lag > 0 {
                lags.push(lag);
            }
            streamer.spawn().unwrap();
            streamer.wait_until_ready(DEADLINE).await.unwrap();
        }
        done.set(true);
        println!("killed with {lags:?} records not checkpointed");
        (read, again)
    };
    let ((), (before, again)) = tokio::time::timeout(TEST_LIMIT, async { tokio::join!(writes, killing) })
        .await
        .unwrap();
    let written = written.get();
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    assert_eq!(i64::try_from(env.users().await.len()).unwrap(), written);
    let last = streamer.metric("streamer_records_total", "").await.unwrap();
    let read = before + last.unwrap_or(0.0);
    // A start reads again what was not checkpointed, which may be much on a busy machine. A rebalance repeats some, too.
    let max = f64::from(i32::try_from(written + again.max(written / 2)).unwrap());
    assert!(
        read <= max,
        "{read} records were read for {written}, {again} of them not checkpointed: a start read too many again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_configuration_exits_78_and_names_key() {
    let env = TestEnv::without_topic("invalid").await;
    for (key, value, expected) in [
        (
            "cassandra.contact_point",
            "x",
            "did you mean `cassandra.contact_points`",
        ),
        ("cassandra.table", "a b", "cassandra.table: must be a name"),
        ("kafka.session_timeout", "soon", "kafka.session_timeout"),
    ] {
        let options: ServiceOptions = env.options().set(key, value);
        let streamer = Service::start(&options).unwrap();
        assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
        assert!(
            streamer.last_lines(1).contains(expected),
            "{}",
            streamer.last_lines(3)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_servers_are_named_in_readiness() {
    let env = TestEnv::without_topic("unreachable").await;
    let options = env
        .options()
        .set("cassandra.contact_points", "127.0.0.1:1")
        .set("kafka.brokers", "127.0.0.1:1");
    let mut streamer = Service::start(&options).unwrap();
    let readiness = streamer
        .wait_for_readiness(reqwest::StatusCode::SERVICE_UNAVAILABLE, DEADLINE)
        .await
        .unwrap();
    let names: Vec<_> = readiness["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["kafka", "cassandra"]);
    crate::support::test_env::eventually("readiness names the node", async || {
        let (_, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        if body.contains("127.0.0.1:1:") {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    assert_eq!(streamer.get("/healthz").await.unwrap().0, 200);
    // The ledger is in Cassandra, for which the streamer waits five seconds.
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE);
    let run = format!("{}/v1/runs/{}", streamer.admin(), uuid::Uuid::new_v4());
    let response = client.build().unwrap().get(run).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let body = response.text().await.unwrap();
    assert!(
        body.contains("urn:affluent:problem:cassandra-unavailable"),
        "{body}"
    );
    assert_eq!(streamer.terminate(Duration::from_secs(5)).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_datacenter_exits_78() {
    let env = TestEnv::without_topic("datacentre").await;
    let options = env.options().set("cassandra.local_datacenter", "elsewhere");
    let streamer = Service::start(&options).unwrap();
    assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
    let log = streamer.last_lines(2);
    assert!(
        log.contains("`elsewhere`") && log.contains("datacenter1"),
        "{log}"
    );
}

/// The server refuses each read and write, or some. It may be short of nodes, so only the keyspace tells that this lasts.
#[tokio::test(flavor = "multi_thread")]
async fn consistency_that_can_not_work_exits_78() {
    for (consistency, replicas, expected) in [
        ("two", 1, "it needs 2 replicas"),
        ("one", 2, "of 2 replicas of a row, 1 may lack the last write"),
    ] {
        let env = TestEnv::without_topic("consistency").await;
        let replication = format!("{{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}");
        let options = env
            .options()
            .set("cassandra.replication", replication)
            .set("cassandra.consistency", consistency);
        let streamer = Service::start(&options).unwrap();
        assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
        let log = streamer.last_lines(2);
        assert!(
            log.contains(&format!("cassandra.consistency can't work: {expected}")),
            "{log}"
        );
    }
}
