//! Orders: several rows of a key, all types, deletions and expiry, dead letters, verification.

use std::collections::BTreeMap;

use testkit::kafka_client::ProducerRecord;
use testkit::rows::Row;
use testkit::workspace::is_full_test_run;
use uuid::Uuid;

use crate::support::commands::{run_command, stop};
use crate::support::orders::{OrdersEnv, deletion, order, order_ids};
use crate::support::test_env::{DEADLINE, eventually};
use crate::support::traffic::metric;

#[tokio::test(flavor = "multi_thread")]
async fn orders_land_byte_exact_and_deletions_remove_their_key() {
    let orders = OrdersEnv::new("orders", 3).await;
    let streamer = orders.env.start(&orders.options()).await;
    let ids = order_ids(5);
    let records = (0..12).flat_map(|version| {
        let ids = &ids;
        (0..20).map(move |customer| order(customer - 10, ids[version % ids.len()], version))
    });
    orders.write(&records.collect::<Vec<_>>()).await;
    orders.write(&[deletion(-10), deletion(0), deletion(9)]).await;
    orders.write(&[order(0, ids[4], 3)]).await;
    // More rows of a key than a page of a query has.
    let many = order_ids(1_100);
    let many: Vec<_> = many.iter().map(|id| order(100, *id, 2)).collect();
    orders.write(&many).await;
    orders.env.assert_nothing_lost_or_rejected().await;
    assert_eq!(orders.ids().await.len(), 17 * 5 + 1 + 1_100);
    let of_customer: Vec<_> = orders.ids().await;
    let of_customer: Vec<_> = of_customer.iter().filter(|id| id.starts_with("0/")).collect();
    assert_eq!(of_customer, [&format!("0/{}", ids[4])]);
    assert!(orders.stamps().await.values().all(|row| {
        let mut stamps = row.values();
        let first = stamps.next();
        stamps.all(|stamp| Some(stamp) == first)
    }));
    assert_eq!(
        metric(&streamer, "streamer_rows_total", "change=\"delete\"").await,
        3.0
    );
    let (code, output) = run_command(orders.options(), "verify").await;
    assert_eq!(
        (code, output.as_str()),
        (Some(0), "records: 1344, keys: 21, dead letters: 0, different: 0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn key_in_another_form_is_stored_and_counted() {
    let orders = OrdersEnv::new("forms", 1).await;
    let streamer = orders.env.start(&orders.options()).await;
    let ids = order_ids(1);
    let with_key = |key: &[u8], record| ProducerRecord {
        key: Some(key.to_vec()),
        ..record
    };
    orders
        .write(&[
            with_key(b"007", order(7, ids[0], 0)),
            order(8, ids[0], 0),
            with_key(b"08", deletion(8)),
            with_key(&9_i64.to_be_bytes(), deletion(9)),
        ])
        .await;
    orders.env.wait_until_caught_up().await;
    assert_eq!(orders.ids().await, [format!("7/{}", ids[0])]);
    let mismatches = metric(&streamer, "streamer_partition_mismatch_total", "kind=\"key\"").await;
    assert_eq!(mismatches, 2.0);
    let letters = metric(
        &streamer,
        "streamer_dead_letters_total",
        "reason=\"tombstone_without_id\"",
    )
    .await;
    assert_eq!(letters, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_order_deletes_its_row_alone() {
    let orders = OrdersEnv::new("expiry", 1).await;
    let options = orders.options().set("cassandra.row_ttl", "1h");
    let mut streamer = orders.env.start(&options).await;
    let ids = order_ids(3);
    let accepted = |seconds_ago: u64, record: ProducerRecord| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let micros = (now - seconds_ago) * 1_000_000;
        ProducerRecord {
            headers: vec![("accepted-at-us".to_owned(), micros.to_string().into_bytes())],
            ..record
        }
    };
    orders
        .write(&[
            accepted(0, order(1, ids[0], 0)),
            accepted(0, order(1, ids[1], 0)),
            accepted(0, order(1, ids[2], 0)),
            accepted(4_000, order(1, ids[1], 1)),
        ])
        .await;
    orders.env.wait_until_caught_up().await;
    let expected = [format!("1/{}", ids[0]), format!("1/{}", ids[2])];
    assert_eq!(orders.ids().await, expected);
    assert_eq!(metric(&streamer, "streamer_expired_total", "").await, 1.0);
    let (code, output) = run_command(options.clone(), "verify").await;
    assert_eq!(code, Some(0), "{output}");
    stop(&mut streamer).await;
    let (code, output) = run_command(options, "replay --from-offset 0 --yes").await;
    assert_eq!(code, Some(0), "{output}");
    streamer.spawn().unwrap();
    orders.env.wait_until_caught_up().await;
    assert_eq!(orders.ids().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_replays_keep_orders_exactly_once() {
    let orders = OrdersEnv::new("kills", 2).await;
    // Many records of a key in one micro-batch and in several in flight.
    let options = orders
        .options()
        .set("batch.max_rows", "32")
        .set("batch.max_in_flight", "8");
    let mut streamer = orders.env.start(&options).await;
    let ids = order_ids(6);
    for round in 0..if is_full_test_run() { 4 } else { 2 } {
        let records = (0..60).flat_map(|step| {
            let ids = &ids;
            (0..12).map(move |customer| match (step * 12 + customer) % 29 {
                28 => deletion(customer),
                _ => {
                    let id = ids[usize::try_from(step + customer).unwrap() % ids.len()];
                    order(customer, id, usize::try_from(round * 60 + step).unwrap())
                }
            })
        });
        orders.write(&records.collect::<Vec<_>>()).await;
        orders.env.wait_for_rows(&streamer).await;
        streamer.kill().await.unwrap();
        streamer.spawn().unwrap();
        streamer.wait_until_ready(DEADLINE).await.unwrap();
    }
    orders.env.assert_nothing_lost_or_rejected().await;
    let stamps = orders.stamps().await;
    for from in [0, 700] {
        stop(&mut streamer).await;
        let (code, output) =
            run_command(options.clone(), &format!("replay --from-offset {from} --yes")).await;
        assert_eq!(code, Some(0), "{output}");
        streamer.spawn().unwrap();
        orders.env.assert_nothing_lost_or_rejected().await;
        assert_eq!(orders.stamps().await, stamps, "from {from}");
    }
}

/// The columns outside the primary key, each with another value than version 0 has.
const OTHER_VALUES: [(&str, &str); 18] = [
    ("note", "'v0 '"),
    ("status", "'PAID'"),
    ("paid", "false"),
    ("items", "-2147483647"),
    ("weight", "4294967294"),
    ("cents", "-9223372036854775807"),
    ("discount", "0.10000001"),
    ("Total", "500.0000000000001"),
    ("token", "0x000103"),
    ("placed_at", "1709200800001"),
    ("select", "['']"),
    ("prices", "[-2e-9, 0.1]"),
    ("events", "null"),
    ("quantities", "{'a': -1, 'z': 2}"),
    ("labels", "{'e': 0x, 'é': 0xfffe}"),
    ("gift", "null"),
    ("express", "true"),
    ("shipped_at", "0"),
];

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_changed_column_and_surplus_row() {
    let orders = OrdersEnv::new("changes", 2).await;
    let _streamer = orders.env.start(&orders.options()).await;
    let ids = order_ids(3);
    // One customer for each column, one that is unchanged, one that is deleted and one with a surplus row.
    let changed = i64::try_from(OTHER_VALUES.len() + 1).unwrap();
    let (deleted, surplus) = (changed + 1, changed + 2);
    let records = (0..=surplus).flat_map(|customer| ids.iter().map(move |id| order(customer, *id, 0)));
    orders.write(&records.collect::<Vec<_>>()).await;
    orders.write(&[deletion(deleted)]).await;
    orders.env.assert_nothing_lost_or_rejected().await;
    let before: BTreeMap<_, Row> = orders.env.cassandra.rows().await.unwrap();

    let columns = OTHER_VALUES
        .iter()
        .chain(&[("invoice", "00000000-0000-4000-8000-000000000001")]);
    for (customer, (column, value)) in (0..).zip(columns) {
        let update = format!(
            "UPDATE {{table}} SET \"{column}\" = {value} WHERE customer_id = {customer} AND order_id = {}",
            ids[1]
        );
        orders.env.cassandra.run(&update).await.unwrap();
    }
    let stranger = Uuid::new_v4();
    for (customer, id) in [(surplus, stranger), (deleted, ids[0])] {
        let insert =
            format!("INSERT INTO {{table}} (customer_id, order_id, note) VALUES ({customer}, {id}, 'x')");
        orders.env.cassandra.run(&insert).await.unwrap();
    }
    let delete = format!(
        "DELETE FROM {{table}} WHERE customer_id = {changed} AND order_id = {}",
        ids[2]
    );
    orders.env.cassandra.run(&delete).await.unwrap();
    let after = orders.env.cassandra.rows().await.unwrap();
    let different = before
        .iter()
        .filter(|(id, row)| after.get(*id) != Some(*row))
        .count();
    assert_eq!(different, OTHER_VALUES.len() + 2, "each statement changes a row");

    let (code, output) = run_command(orders.options(), "verify").await;
    assert_eq!(code, Some(1), "{output}");
    let expected = OTHER_VALUES.len() + 4;
    assert!(output.contains(&format!("different: {expected}")), "{output}");
    for customer in 0..changed {
        let line = format!(
            "{customer} {} is missing in the table or has other values",
            ids[1]
        );
        assert!(
            output.lines().any(|it| it.ends_with(&format!(" {line}"))),
            "{line}: {output}"
        );
    }
    for line in [
        format!("{changed} {} is missing in the table or has other values", ids[2]),
        format!(
            "{deleted} {} is in the table although it was deleted or has expired",
            ids[0]
        ),
        format!("{surplus} {stranger} is in the table although no record in the topic has it"),
    ] {
        assert!(
            output.lines().any(|it| it.ends_with(&format!(" {line}"))),
            "{line}: {output}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_accepts_rows_that_a_streamer_writes_meanwhile() {
    let orders = OrdersEnv::new("meanwhile", 2).await;
    let _streamer = orders.env.start(&orders.options()).await;
    let ids = order_ids(40);
    orders
        .write(
            &(0..30)
                .map(|customer| order(customer, ids[0], 0))
                .collect::<Vec<_>>(),
        )
        .await;
    orders.env.wait_until_caught_up().await;
    let writes = async {
        for version in 0..150 {
            let records = (0..30).map(
                |customer| match (customer + i64::try_from(version).unwrap()) % 17 {
                    16 => deletion(customer),
                    _ => order(customer, ids[version % ids.len()], version),
                },
            );
            orders.write(&records.collect::<Vec<_>>()).await;
        }
    };
    let verifications = async {
        for _ in 0..3 {
            let (code, output) = run_command(orders.options(), "verify").await;
            assert_eq!(code, Some(0), "{output}");
        }
    };
    tokio::join!(writes, verifications);
}

#[tokio::test(flavor = "multi_thread")]
async fn redriven_deletion_keeps_later_orders() {
    let orders = OrdersEnv::new("redrives", 1).await;
    let rejecting = orders.options().set("tombstones", "dead_letter");
    let _streamer = orders.env.start(&rejecting).await;
    let ids = order_ids(3);
    orders
        .write(&[
            order(1, ids[0], 0),
            order(1, ids[1], 0),
            order(2, ids[0], 0),
            deletion(1),
            order(1, ids[1], 1),
            order(1, ids[2], 1),
            deletion(3),
        ])
        .await;
    orders.env.wait_until_caught_up().await;
    assert_eq!(orders.ids().await.len(), 4);
    // A row that no record in the topic has is deleted, too.
    let insert = "INSERT INTO {table} (customer_id, order_id) VALUES (1, 00000000-0000-4000-8000-000000000001) \
                  USING TIMESTAMP 1";
    orders.env.cassandra.run(insert).await.unwrap();
    let (code, output) = run_command(orders.options(), "redrive --dry-run").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("written: 2,"), "{output}");
    assert_eq!(orders.ids().await.len(), 5);
    let (code, output) = run_command(orders.options(), "redrive").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("written: 2,"), "{output}");
    let mut expected = vec![
        format!("1/{}", ids[1]),
        format!("1/{}", ids[2]),
        format!("2/{}", ids[0]),
    ];
    expected.sort();
    assert_eq!(orders.ids().await, expected);
    let (code, output) = run_command(orders.options(), "verify").await;
    assert_eq!(code, Some(0), "{output}");

    // A later deletion of the key supersedes an order, and a later record of the order supersedes it, too.
    let letters = async || {
        orders
            .env
            .kafka
            .end_offsets(&orders.env.dead_letter_topic())
            .await
            .unwrap()
    };
    let before: i64 = letters().await.values().sum();
    orders.write(&[deletion(2)]).await;
    eventually("the deletion is a dead letter", async || {
        match letters().await.values().sum::<i64>() {
            now if now > before => Ok(()),
            now => Err(now.to_string()),
        }
    })
    .await;
    let (code, output) = run_command(orders.options(), "redrive").await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(orders.ids().await, expected[..2]);
}
