//! Where reading starts, and what a checkpoint says.

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use uuid::Uuid;

use crate::world::{DEADLINE, World, eventually, outgoing, people, record};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_checkpoint_says_and_reads_nothing_twice() {
    let world = World::new("restart", 3).await;
    let mut streamer = world.streamer().await;
    world.write(&people(300)).await;
    world.caught_up().await;
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
    world.write(&people(50)).await;
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    world.caught_up().await;
    assert_eq!(
        streamer.metric("streamer_records_total", "").await.unwrap(),
        Some(50.0)
    );
    world.table_is_the_log().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_checkpoint_means_the_beginning_and_changes_no_row() {
    let world = World::new("wiped", 1).await;
    let mut streamer = world.streamer().await;
    let id = Uuid::new_v4();
    world.write(&[(id, "old"), (id, "new")]).await;
    world.caught_up().await;
    streamer.terminate(DEADLINE).await.unwrap();
    world.table.run("TRUNCATE {ks}.stream_checkpoints").await.unwrap();
    streamer.spawn().unwrap();
    world.caught_up().await;
    assert_eq!(
        streamer.metric("streamer_records_total", "").await.unwrap(),
        Some(2.0)
    );
    assert_eq!(world.users().await[&id]["first_name"], "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_latest_what_was_there_before_is_not_read_but_a_kill_before_the_first_record_skips_nothing() {
    let world = World::new("latest", 1).await;
    world.write(&people(3)).await;
    let mut streamer = world
        .start(&world.options().set("checkpoint.on_missing", "latest"))
        .await;
    world.caught_up().await;
    streamer.kill().await.unwrap();
    let later = people(2);
    world.write(&later).await;
    streamer.spawn().unwrap();
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    world.caught_up().await;
    let users = world.users().await;
    assert_eq!(
        users.keys().copied().collect::<std::collections::BTreeSet<_>>(),
        later.iter().map(|it| it.0).collect()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_markers_and_aborted_records_leave_no_lag() {
    let world = World::new("markers", 1).await;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", world.bootstrap())
        .set("transactional.id", &world.topic)
        .create()
        .unwrap();
    let (topic, kept, dropped) = (world.topic.clone(), Uuid::new_v4(), Uuid::new_v4());
    tokio::task::spawn_blocking(move || {
        producer.init_transactions(DEADLINE).unwrap();
        for (id, commit) in [(kept, true), (dropped, false)] {
            producer.begin_transaction().unwrap();
            let (key, value) = (id.to_string(), record(id, "x"));
            producer
                .send(BaseRecord::to(&topic).key(&key).payload(&value))
                .map_err(|(error, _)| error)
                .unwrap();
            producer.flush(DEADLINE).unwrap();
            if commit {
                producer.commit_transaction(DEADLINE).unwrap();
            } else {
                producer.abort_transaction(DEADLINE).unwrap();
            }
        }
    })
    .await
    .unwrap();
    let _streamer = world.streamer().await;
    world.caught_up().await;
    assert_eq!(world.users().await.into_keys().collect::<Vec<_>>(), [kept]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_is_read_from_its_beginning_and_its_records_win() {
    let world = World::new("recreated", 1).await;
    let streamer = world.streamer().await;
    let id = Uuid::new_v4();
    world
        .write(&[
            (id, "old"),
            (Uuid::new_v4(), "other"),
            (Uuid::new_v4(), "another"),
        ])
        .await;
    world.caught_up().await;
    let before = world.table.checkpoints(&world.topic, &world.topic).await.unwrap()[&0];

    world.delete_topic().await;
    world.create_topic(&world.topic, 1).await;
    // More records than before, so that the old offset exists in the new topic too.
    let records: Vec<_> = std::iter::once(outgoing(id, "new"))
        .chain((0..5).map(|_| outgoing(Uuid::new_v4(), "x")))
        .collect();
    world.tap_anew().write(&world.topic, &records).await.unwrap();
    eventually("the new topic is read from its beginning", async || {
        let checkpoint = world
            .table
            .checkpoints(&world.topic, &world.topic)
            .await
            .map_err(|error| error.to_string())?[&0];
        if checkpoint.topic_id != before.topic_id && checkpoint.next_offset == 6 {
            Ok(())
        } else {
            Err(format!("{checkpoint:?}"))
        }
    })
    .await;
    assert_eq!(world.users().await[&id]["first_name"], "new");
    assert!(
        streamer
            .metric("streamer_restarts_total", "")
            .await
            .unwrap()
            .unwrap()
            >= 1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_beyond_the_end_stops_the_start_and_says_how_much_is_gone() {
    let world = World::new("beyond", 1).await;
    let mut streamer = world.streamer().await;
    world.write(&people(5)).await;
    world.caught_up().await;
    streamer.terminate(DEADLINE).await.unwrap();
    world
        .table
        .run(&format!(
            "UPDATE {{ks}}.stream_checkpoints SET next_offset = 90 WHERE group_id = '{0}' AND topic = '{0}' AND partition = 0",
            world.topic
        ))
        .await
        .unwrap();
    streamer.spawn().unwrap();
    assert_eq!(streamer.wait(DEADLINE).await.unwrap(), Some(78));
    let log = streamer.last_lines(5);
    assert!(
        log.contains("offset 90") && log.contains("on_out_of_range"),
        "{log}"
    );
}
