//! Contracts that are refused, and tables that get new columns.

use cdrs_tokio::types::ByName as _;
use testkit::kafka_client::ProducerRecord;
use testkit::service::Service;

use crate::support::commands::{run_command, stop};
use crate::support::orders::{ORDERS, OrdersEnv, order, order_ids};
use crate::support::test_env::DEADLINE;
use crate::support::traffic::{metric, wait_for_exit};

/// Adds a field to the contract.
fn with_field(field: &str) -> String {
    ORDERS.replace("  string invoice", &format!("  {field}\n  string invoice"))
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_contract_exits_78_with_field_and_remedy() {
    let orders = OrdersEnv::new("refused", 1).await;
    let nested = with_field("Order parent = 30;");
    for (name, proto, expected) in [
        ("nested", nested.as_str(), "field `parent`"),
        ("unreadable", "message", "record.proto"),
    ] {
        let streamer = Service::start(&orders.options_of(name, proto)).unwrap();
        let (code, log) = wait_for_exit(&streamer).await;
        assert_eq!(code, Some(78), "{log}");
        assert!(log.contains(expected) && log.contains(name), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn added_field_is_counted_then_filled_by_a_replay() {
    let orders = OrdersEnv::new("added", 2).await;
    let env = &orders.env;
    let mut streamer = env.start(&orders.options()).await;
    let ids = order_ids(10);
    // The writer has the newer contract already.
    let records = ids.iter().map(|id| {
        let record = order(5, *id, 0);
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        ProducerRecord {
            value: Some(value.replacen('{', r#"{"coupon":"ten","#, 1).into_bytes()),
            headers: vec![("schema-hash".to_owned(), b"0123456789abcdef".to_vec())],
            ..order(5, *id, 0)
        }
    });
    env.kafka
        .write(&env.topic, &records.collect::<Vec<_>>())
        .await
        .unwrap();
    env.assert_nothing_lost_or_rejected().await;
    assert_eq!(metric(&streamer, "streamer_unknown_fields_total", "").await, 10.0);
    stop(&mut streamer).await;

    let newer = with_field("optional string coupon = 30; map<string, double> rates = 31;");
    let options = orders.options_of("newer", &newer).log_name("newer");
    let alter = |definition: &str| format!("ALTER TABLE {}.created_orders ADD {definition}", env.keyspace);
    let alterations = [
        alter("\"coupon\" text"),
        alter("\"rates\" frozen<map<text, double>>"),
    ];
    let (code, log) = wait_for_exit(&Service::start(&options).unwrap()).await;
    assert_eq!(code, Some(78), "{log}");
    assert!(alterations.iter().all(|it| log.contains(it)), "{log}");
    let note = "-- rates: null in the existing rows, and empty after `streamer replay --from-offset 0`";
    let expected = alterations.iter().map(|it| format!("{it};"));
    let expected: Vec<_> = expected.chain([note.to_owned()]).collect();
    let (code, output) = run_command(options.clone(), "schema plan").await;
    assert_eq!(
        (code, output.lines().collect::<Vec<_>>()),
        (Some(0), expected.iter().map(String::as_str).collect())
    );
    let (code, output) = run_command(options.clone(), "schema apply").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.ends_with("fits the contract shop.v1.Order"), "{output}");
    let (code, output) = run_command(options.clone(), "schema plan").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.ends_with("fits the contract shop.v1.Order"), "{output}");

    let (code, output) = run_command(options.clone(), "replay --from-offset 0 --yes").await;
    assert_eq!(code, Some(0), "{output}");
    let streamer = env.start(&options).await;
    env.wait_until_caught_up().await;
    assert_eq!(metric(&streamer, "streamer_unknown_fields_total", "").await, 0.0);
    let rows = env.cassandra.rows().await.unwrap();
    assert_eq!(rows.len(), ids.len());
    assert!(
        rows.values()
            .all(|row| row["coupon"] == b"ten" && row["rates"] == [0; 4])
    );
    let (code, output) = run_command(options, "verify").await;
    assert_eq!(code, Some(0), "{output}");
    // An older reader still fits the table.
    let (code, output) = run_command(orders.options(), "verify").await;
    assert_eq!(code, Some(0), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_plan_refuses_changes_that_are_not_additive() {
    let orders = OrdersEnv::new("refusals", 1).await;
    let (code, output) = run_command(orders.options(), "schema show").await;
    assert_eq!(code, Some(0), "{output}");
    let create = output.clone();
    assert!(
        create.starts_with(&format!(
            "CREATE TABLE IF NOT EXISTS {}.created_orders (\"note\" text, \"customer_id\" bigint, ",
            orders.env.keyspace
        )) && create.ends_with("PRIMARY KEY ((\"customer_id\"), \"order_id\"));"),
        "{create}"
    );
    let (code, output) = run_command(orders.options(), "schema plan").await;
    assert_eq!((code, &output), (Some(0), &create), "the table does not exist");
    let (code, output) = run_command(orders.options(), "schema apply").await;
    assert_eq!(code, Some(0), "{output}");
    for (name, proto, expected) in [
        (
            "required",
            with_field("string coupon = 30;"),
            "field coupon is new and required",
        ),
        (
            "type",
            ORDERS.replace("int32 items", "int64 items"),
            "column items has type int, expected bigint",
        ),
        (
            "key",
            ORDERS.replace("key: \"customer_id\"", "key: \"cents\""),
            "column cents is a regular column, expected a partition_key (position 0) column",
        ),
        (
            "clustering",
            ORDERS.replace("[\"order_id\"]", "[\"status\", \"order_id\"]"),
            "column order_id is a clustering (position 0, asc) column, expected a clustering (position 1, asc) column",
        ),
        (
            "fewer",
            ORDERS.replace("clustering: [\"order_id\"]", ""),
            "column order_id is a clustering (position 0, asc) column, expected a regular column",
        ),
    ] {
        for command in ["schema plan", "schema apply"] {
            let (code, output) = run_command(orders.options_of(name, &proto), command).await;
            assert_eq!(code, Some(78), "{name}: {output}");
            assert!(output.contains(expected), "{name}: {output}");
            assert_eq!(output.lines().count(), 1, "{output}");
        }
    }
    // Nothing was changed.
    let (code, output) = run_command(orders.options(), "schema plan").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.ends_with("fits the contract shop.v1.Order"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn descending_clustering_columns_are_refused() {
    let orders = OrdersEnv::new("descending", 1).await;
    let (_, create) = run_command(orders.options(), "schema show").await;
    let keyspace =
        "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    orders.env.cassandra.run(keyspace).await.unwrap();
    let create = create.replace(';', " WITH CLUSTERING ORDER BY (\"order_id\" DESC)");
    orders.env.cassandra.run(&create).await.unwrap();
    let (code, log) = wait_for_exit(&Service::start(&orders.options()).unwrap()).await;
    assert_eq!(code, Some(78), "{log}");
    assert!(
        log.contains("column order_id is a clustering (position 0, desc) column"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn text_columns_hold_instants_of_an_existing_table() {
    let orders = OrdersEnv::new("instants", 1).await;
    let by_time = ORDERS.replace("[\"order_id\"]", "[\"placed_at\", \"order_id\"]");
    let options = orders.options_of("by_time", &by_time);
    let (_, create) = run_command(options.clone(), "schema show").await;
    let keyspace =
        "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    orders.env.cassandra.run(keyspace).await.unwrap();
    let create = create
        .replace(';', "")
        .replace("\"placed_at\" timestamp", "\"placed_at\" text")
        .replace("\"shipped_at\" timestamp", "\"shipped_at\" text");
    orders.env.cassandra.run(&create).await.unwrap();
    let mut streamer = orders.env.start(&options).await;
    let ids = order_ids(2);
    orders.write(&[order(1, ids[0], 1), order(1, ids[1], 0)]).await;
    orders.env.assert_no_dead_letters().await;
    orders.env.wait_until_caught_up().await;
    let rows = orders
        .env
        .cassandra
        .run("SELECT placed_at, shipped_at FROM {table}")
        .await
        .unwrap();
    let texts: Vec<(Option<String>, Option<String>)> = rows
        .iter()
        .map(|row| {
            (
                row.by_name("placed_at").unwrap(),
                row.by_name("shipped_at").unwrap(),
            )
        })
        .collect();
    let placed = Some("2024-02-29T10:00:00.000Z".to_owned());
    assert_eq!(
        texts,
        [
            (placed.clone(), Some("1969-12-31T23:59:59.999Z".to_owned())),
            (placed, None)
        ]
    );
    let (code, output) = run_command(options, "verify").await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
}
