//! Stops of every kind: nothing acknowledged is lost, nothing is read from the beginning again.

use std::time::{Duration, Instant};

use testbed::service::{Service, ServiceOptions};

use crate::world::{DEADLINE, World, people};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_streamer_finishes_what_it_holds_and_exits_with_0() {
    let world = World::new("sigterm", 3).await;
    let mut streamer = world.streamer().await;
    world.write(&people(20_000)).await;
    world.busy(&streamer).await;
    let started = Instant::now();
    assert_eq!(
        streamer.terminate(Duration::from_secs(25)).await.unwrap(),
        Some(0),
        "{}",
        streamer.last_lines(10)
    );
    assert!(started.elapsed() < Duration::from_secs(25));
    let read = world.table.checkpoints(&world.topic, &world.topic).await.unwrap();
    let read: i64 = read.values().map(|checkpoint| checkpoint.next_offset).sum();
    let rows = world.table.count().await.unwrap();
    assert_eq!(
        rows, read,
        "what was written is checkpointed, and nothing else is written"
    );
    streamer.spawn().unwrap();
    world.caught_up().await;
    world.table_is_the_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_under_load_it_loses_nothing_and_never_starts_over() {
    const RECORDS: usize = 20_000;
    const SLICES: usize = 120;
    let world = World::new("kills", 6).await;
    let mut streamer = world.streamer().await;
    let users = people(RECORDS);
    let feed = async {
        for slice in users.chunks(RECORDS / SLICES) {
            let next = tokio::time::Instant::now() + Duration::from_millis(510);
            world.write(slice).await;
            tokio::time::sleep_until(next).await;
        }
    };
    let kills = async {
        let mut read_again = 0.0;
        for kill in 0..10_u64 {
            // The moments differ; each comes while there is something to lose.
            tokio::time::sleep(Duration::from_millis(4_000 + kill * 137 % 900)).await;
            world.lagging().await;
            read_again += streamer
                .metric("streamer_records_total", "")
                .await
                .ok()
                .flatten()
                .unwrap_or(0.0);
            streamer.kill().await.unwrap();
            streamer.spawn().unwrap();
            streamer.ready(DEADLINE).await.unwrap();
        }
        read_again
    };
    let ((), before) = tokio::join!(feed, kills);
    world.caught_up().await;
    world.table_is_the_log().await;
    assert_eq!(world.users().await.len(), RECORDS);
    let last = streamer
        .metric("streamer_records_total", "")
        .await
        .unwrap()
        .unwrap_or(0.0);
    let read = before + last;
    assert!(
        read < 1.5 * 20_000.0,
        "{read} records were read for 20,000: it starts over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_it_with_78_and_one_line_that_names_the_key() {
    let world = World::bare("wrong").await;
    for (key, value, says) in [
        (
            "cassandra.contact_point",
            "x",
            "did you mean `cassandra.contact_points`",
        ),
        ("cassandra.table", "a b", "`cassandra.table` is not a name"),
        ("kafka.session_timeout", "soon", "kafka.session_timeout"),
    ] {
        let options: ServiceOptions = world.options().set(key, value);
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
async fn it_waits_for_servers_that_are_not_there_and_says_for_which() {
    let world = World::bare("waits").await;
    let options = world
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
    crate::world::eventually("the reason names the node", async || {
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
async fn a_data_centre_that_no_node_is_in_ends_it_with_78() {
    let world = World::bare("datacentre").await;
    let options = world.options().set("cassandra.local_datacenter", "elsewhere");
    let streamer = Service::start(&options).unwrap();
    assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
    let log = streamer.last_lines(2);
    assert!(
        log.contains("`elsewhere`") && log.contains("datacenter1"),
        "{log}"
    );
}
