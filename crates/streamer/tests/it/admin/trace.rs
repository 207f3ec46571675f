//! The command `trace`: the events of a key, their dead letters and its rows.

use serde_json::{Value, json};
use testkit::kafka_client::ProducerRecord;
use testkit::service::ServiceOptions;
use uuid::Uuid;

use crate::support::commands::{run_command, run_successfully, tombstone, write_timestamps};
use crate::support::orders::{OrdersEnv, deletion, order, order_ids};
use crate::support::test_env::{TestEnv, new_users, outgoing};

/// Returns the trace of a key.
async fn trace(options: ServiceOptions, arguments: &str) -> Value {
    let (code, output) = run_command(options, &format!("trace {arguments} --json")).await;
    assert_eq!(code, Some(0), "{output}");
    serde_json::from_str(output.trim()).unwrap_or_else(|_| panic!("{output}"))
}

/// Returns a member of each element.
fn each<'a>(list: &'a Value, name: &str) -> Vec<&'a Value> {
    list.as_array().unwrap().iter().map(|it| &it[name]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_shows_events_dead_letters_and_rows_of_a_user() {
    let env = TestEnv::new("trace", 3).await;
    let options = env.options().set("cassandra.row_ttl", "87600h");
    let _streamer = env.start(&options).await;
    let (id, run) = (Uuid::new_v4(), Uuid::new_v4());
    let secret = format!("name-{}", Uuid::new_v4().simple());
    env.write(&new_users(50)).await;
    let mut first = outgoing(id, &secret);
    // The time to live starts at the acceptance.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros().to_string();
    first.headers = vec![
        ("accepted-at-us".to_owned(), now.into_bytes()),
        ("run-id".to_owned(), run.to_string().into_bytes()),
        ("run-seq".to_owned(), b"17".to_vec()),
    ];
    let invalid = ProducerRecord {
        value: Some(format!("{{\"email\":\"{secret}\"").into_bytes()),
        ..first.clone()
    };
    // Under no Kafka key, so any partition may have it.
    let elsewhere = ProducerRecord {
        key: None,
        partition: Some(0),
        ..outgoing(id, &secret)
    };
    let written = env
        .kafka
        .write(&env.topic, &[first.clone(), tombstone(id), invalid, first])
        .await
        .unwrap();
    env.write(&new_users(50)).await;
    env.wait_until_caught_up().await;

    let found = trace(options.clone(), &id.to_string().to_uppercase()).await;
    let partition = written[0].0;
    assert_eq!(found["key"], id.to_string());
    assert_eq!(found["partitions"], json!([partition]));
    let events = &found["events"];
    assert_eq!(
        each(events, "change"),
        ["upsert", "delete", "dead_letter", "upsert"]
    );
    let offsets: Vec<_> = written.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(each(events, "offset"), offsets.iter().collect::<Vec<_>>());
    assert_eq!(events[2]["reason"], "malformed");
    assert_eq!(
        (&events[3]["run_id"], &events[3]["run_seq"]),
        (&json!(run.to_string()), &json!(17))
    );
    assert!(
        events[1]["run_id"].is_null() && events[0]["time"].is_string(),
        "{found}"
    );
    let (rows, letters) = (&found["rows"], &found["dead_letters"]);
    assert_eq!(rows.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(rows[0]["primary_key"]["id"], id.to_string());
    assert_eq!(rows[0]["write_timestamp"], write_timestamps(&env).await[&id]);
    assert_eq!(
        rows[0]["event"],
        json!({"partition": partition, "offset": offsets[3]})
    );
    assert_eq!(rows[0]["other_write_timestamps"], json!({}));
    assert!(rows[0]["ttl_seconds"].as_i64().unwrap() > 300_000_000, "{found}");
    assert_eq!(letters.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(letters[0]["reason"], "malformed");
    assert_eq!(
        letters[0]["record"],
        json!({"partition": partition, "offset": offsets[2]})
    );
    assert!(!found.to_string().contains(&secret), "{found}");

    let found = trace(options.clone(), &format!("{id} --values")).await;
    assert_eq!(found["rows"][0]["fields"]["email"], format!("{secret}@x"));
    assert_eq!(found["events"][3]["fields"]["phone"], secret);
    assert!(
        found["dead_letters"][0]["value"]
            .as_str()
            .unwrap()
            .contains(&secret)
    );

    env.kafka.write(&env.topic, &[elsewhere]).await.unwrap();
    env.wait_until_caught_up().await;
    assert_eq!(
        each(&trace(options.clone(), &id.to_string()).await["events"], "offset").len(),
        4
    );
    let all = trace(options.clone(), &format!("{id} --all-partitions")).await;
    assert_eq!(all["events"].as_array().unwrap().len(), 5, "{all}");

    let text = run_successfully(&env, &format!("trace {id}")).await;
    assert!(
        text.contains("events: 4, dead letters: 1, rows: 1") && !text.contains(&secret),
        "{text}"
    );
    let (code, output) = run_command(env.options(), "trace somebody").await;
    assert!(
        code == Some(2) && output.contains("`somebody` is not a key of the contract"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_shows_all_rows_of_a_composite_key() {
    let orders = OrdersEnv::new("trace_orders", 3).await;
    let _streamer = orders.env.start(&orders.options()).await;
    let ids = order_ids(3);
    orders
        .write(&[
            order(7, ids[0], 0),
            deletion(7),
            order(7, ids[1], 1),
            order(8, ids[0], 0),
            order(7, ids[2], 2),
            order(7, ids[1], 3),
        ])
        .await;
    orders.env.wait_until_caught_up().await;
    let found = trace(orders.options(), "7").await;
    assert_eq!(
        each(&found["events"], "change"),
        ["upsert", "delete", "upsert", "upsert", "upsert"]
    );
    let keys = each(&found["rows"], "primary_key");
    let expected = [&ids[1], &ids[2]].map(|id| json!({"customer_id": 7, "order_id": id.to_string()}));
    assert_eq!(keys, expected.iter().collect::<Vec<_>>());
    let offset = |event: usize| &found["events"][event]["offset"];
    let rows = &found["rows"];
    assert_eq!(
        (&rows[0]["event"]["offset"], &rows[1]["event"]["offset"]),
        (offset(4), offset(3))
    );
    assert_eq!(rows[0]["fields"]["note"], "v3", "a field that is not personal");
    assert_eq!(trace(orders.options(), "9").await["events"], json!([]));
}
