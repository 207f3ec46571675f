//! Stops of every kind: nothing acknowledged is lost, nothing is read from the beginning again.

use std::cell::Cell;
use std::time::{Duration, Instant};

use testkit::service::{Service, ServiceOptions};

use crate::support::seeded_random::SeededRandom;
use crate::support::test_env::{DEADLINE, TestEnv, new_users};

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
    assert_eq!(
        rows, read,
        "what was written is checkpointed, and nothing else is written"
    );
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
}

/// Ten kills at random moments of its work, each with records that were not checkpointed yet. The feed goes on until the
/// last kill, and for a minute at least.
#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_load_lose_nothing() {
    const KILLS: usize = 10;
    const FEED: Duration = Duration::from_secs(60);
    let env = TestEnv::new("kills", 6).await;
    let mut streamer = env.streamer().await;
    let mut random = SeededRandom::new("killed_ten_times");
    let (done, written) = (Cell::new(false), Cell::new(0));
    let feed = async {
        let started = Instant::now();
        while !done.get() || started.elapsed() < FEED {
            // More often than checkpoints are written, so that there is always something that is in none.
            let next = tokio::time::Instant::now() + Duration::from_millis(40);
            env.write(&new_users(20)).await;
            written.set(written.get() + 20);
            tokio::time::sleep_until(next).await;
        }
    };
    let kills = async {
        let (mut read, mut lags) = (0.0, Vec::new());
        while lags.len() < KILLS {
            env.wait_for_rows(&streamer).await;
            tokio::time::sleep(random.millis(0..2_000)).await;
            let so_far = streamer.metric("streamer_records_total", "").await.unwrap();
            read += so_far.unwrap_or(0.0);
            while env.checkpoint_sum().await >= written.get() {}
            let acknowledged = written.get();
            streamer.kill().await.unwrap();
            // What Kafka had before the kill and is in no checkpoint after it was there to be lost.
            let lag = acknowledged - env.checkpoint_sum().await;
            if lag > 0 {
                lags.push(lag);
            }
            streamer.spawn().unwrap();
            streamer.ready(DEADLINE).await.unwrap();
        }
        done.set(true);
        println!("killed with {lags:?} records not checkpointed");
        read
    };
    let ((), before) = tokio::time::timeout(FEED * 4, async { tokio::join!(feed, kills) })
        .await
        .unwrap();
    let written = written.get();
    env.wait_until_caught_up().await;
    env.assert_table_matches_topic().await;
    assert_eq!(i64::try_from(env.users().await.len()).unwrap(), written);
    let last = streamer.metric("streamer_records_total", "").await.unwrap();
    let read = before + last.unwrap_or(0.0);
    let most = 1.5 * f64::from(i32::try_from(written).unwrap());
    assert!(
        read < most,
        "{read} records were read for {written}: it starts over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_configuration_exits_78_and_names_key() {
    let env = TestEnv::without_topic("wrong").await;
    for (key, value, says) in [
        (
            "cassandra.contact_point",
            "x",
            "did you mean `cassandra.contact_points`",
        ),
        (
            "cassandra.cassandra",
            "a b",
            "cassandra.cassandra: must be a name",
        ),
        ("kafka.session_timeout", "soon", "kafka.session_timeout"),
    ] {
        let options: ServiceOptions = env.options().set(key, value);
        let streamer = Service::start(&options).unwrap();
        assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
        assert!(
            streamer.last_lines(1).contains(says),
            "{}",
            streamer.last_lines(3)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_servers_are_named_in_readiness() {
    let env = TestEnv::without_topic("waits").await;
    let options = env
        .options()
        .set("cassandra.contact_points", "127.0.0.1:1")
        .set("kafka.brokers", "127.0.0.1:1");
    let mut streamer = Service::start(&options).unwrap();
    let readiness = streamer
        .readiness(reqwest::StatusCode::SERVICE_UNAVAILABLE, DEADLINE)
        .await
        .unwrap();
    let names: Vec<_> = readiness["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["kafka", "cassandra"]);
    crate::support::test_env::eventually("the reason names the node", async || {
        let (_, body) = streamer.ask("/readyz").await.map_err(|error| error.to_string())?;
        if body.contains("127.0.0.1:1:") {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    assert_eq!(streamer.ask("/healthz").await.unwrap().0, 200);
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
