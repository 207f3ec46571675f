//! The proof that the table is the log, as the operator gets it.

use testkit::kafka_client::ProducerRecord;
use uuid::Uuid;

use crate::commands::{done, ids, operate, stop, tombstone};
use crate::world::{World, outgoing, people};

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_nothing_while_a_streamer_works_and_every_row_that_was_changed_behind_its_back() {
    let world = World::new("verify", 2).await;
    let mut streamer = world.streamer().await;
    let ids = ids(40);
    let garbage = ProducerRecord {
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    };
    let records: Vec<_> = ["v1", "v2"]
        .iter()
        .flat_map(|name| ids.iter().map(|id| outgoing(*id, name)))
        .chain([tombstone(ids[0]), garbage])
        .collect();
    world.tap.write(&world.topic, &records).await.unwrap();
    world.caught_up().await;
    let output = done(&world, "verify").await;
    assert_eq!(output, "records: 82, users: 40, dead letters: 1, different: 0");

    // New versions of the same users, before, while and after they are looked at.
    let feed = async {
        for version in 0..200 {
            let records: Vec<_> = ids[1..]
                .iter()
                .map(|id| outgoing(*id, &format!("later{version}")))
                .collect();
            world.tap.write(&world.topic, &records).await.unwrap();
        }
    };
    let look = async {
        for _ in 0..3 {
            let output = done(&world, "verify").await;
            assert!(output.ends_with("different: 0"), "{output}");
        }
    };
    tokio::join!(feed, look);
    world.caught_up().await;
    stop(&mut streamer).await;
    // What is not checkpointed is not promised.
    world.write(&people(5)).await;
    let output = done(&world, "verify").await;
    assert!(output.contains("users: 40,"), "{output}");

    let behind = |statement: &str, id: Uuid| statement.replace("{id}", &id.to_string());
    for statement in [
        behind(
            "UPDATE {ks}.created_users SET phone = 'x' WHERE id = {id}",
            ids[1],
        ),
        behind("DELETE FROM {ks}.created_users WHERE id = {id}", ids[2]),
        behind("UPDATE {ks}.created_users SET dob = null WHERE id = {id}", ids[3]),
        behind("INSERT INTO {ks}.created_users (id) VALUES ({id})", ids[0]),
    ] {
        world.table.run(&statement).await.unwrap();
    }
    let (code, output) = operate(world.options(), "verify").await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("different: 4"), "{output}");
    for id in &ids[..4] {
        assert!(output.contains(&id.to_string()), "{output}");
    }
    assert!(
        output.contains(&format!("{} is in the table although", ids[0])),
        "{output}"
    );
    assert!(!output.contains(&ids[4].to_string()), "{output}");
}
