//! Schema checks at the start and at runtime. A table that does not fit, or is lost, ends the streamer.

use crate::support::commands::run_command;
use crate::support::test_env::{DEADLINE, TestEnv, new_users};
use testkit::service::Service;

const KEYSPACE: &str =
    "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
const TABLE: &str = "CREATE TABLE {ks}.created_users (id uuid PRIMARY KEY, first_name text, last_name text, gender text, \
                     address text, post_code text, email text, username text, dob text, registered_date text, phone text, \
                     picture text, ingested_at timestamp)";

/// Starts a streamer that must exit 78. Returns the end of its log.
async fn start_rejected(env: &TestEnv) -> String {
    let streamer = Service::start(&env.options()).unwrap();
    assert_eq!(
        streamer.wait(DEADLINE).await.unwrap(),
        Some(78),
        "{}",
        streamer.last_lines(10)
    );
    streamer.last_lines(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_column_exits_78_with_alter_table() {
    let env = TestEnv::new("missing", 1).await;
    env.cassandra.run(KEYSPACE).await.unwrap();
    env.cassandra
        .run(&TABLE.replace("phone text, ", ""))
        .await
        .unwrap();
    let log = start_rejected(&env).await;
    assert!(
        log.contains(&format!(
            "ALTER TABLE {}.created_users ADD \"phone\" text",
            env.keyspace
        )),
        "{log}"
    );
    env.cassandra
        .run("ALTER TABLE {ks}.created_users ADD phone text")
        .await
        .unwrap();
    let _streamer = env.streamer().await;
    env.write(&new_users(1)).await;
    env.wait_until_caught_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_column_types_are_reported_per_column() {
    let env = TestEnv::new("types", 1).await;
    env.cassandra.run(KEYSPACE).await.unwrap();
    let table = TABLE
        .replace("post_code text", "post_code int")
        .replace("id uuid PRIMARY KEY", "id text PRIMARY KEY");
    env.cassandra.run(&table).await.unwrap();
    let log = start_rejected(&env).await;
    assert!(log.contains("column id has type text, expected uuid"), "{log}");
    assert!(
        log.contains("column post_code has type int, expected text"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn original_table_with_text_timestamps_is_accepted() {
    let env = TestEnv::new("takeover", 1).await;
    env.cassandra.run(KEYSPACE).await.unwrap();
    env.cassandra
        .run(&TABLE.replace("phone text", "phone text, extra int"))
        .await
        .unwrap();
    let _streamer = env.streamer().await;
    let users = new_users(1);
    env.write(&users).await;
    env.wait_until_caught_up().await;
    let rows = env
        .cassandra
        .run("SELECT dob FROM {ks}.created_users")
        .await
        .unwrap();
    let dob: String = cdrs_tokio::types::ByName::by_name(&rows[0], "dob")
        .unwrap()
        .unwrap();
    assert_eq!(dob, "1969-07-20T20:17:40.000Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_table_exits_78_and_is_not_recreated() {
    let env = TestEnv::new("dropped", 1).await;
    let streamer = env.streamer().await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    assert_eq!(
        streamer.wait(DEADLINE).await.unwrap(),
        Some(78),
        "{}",
        streamer.last_lines(10)
    );
    let log = start_rejected(&env).await;
    assert!(
        log.contains("streamer replay") && log.contains("CREATE TABLE"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recreated_table_exits_78_with_both_remedies() {
    let env = TestEnv::new("recreated_table", 1).await;
    let mut streamer = env.streamer().await;
    env.write(&new_users(5)).await;
    env.wait_until_caught_up().await;
    streamer.terminate(DEADLINE).await.unwrap();
    env.cassandra.run("DROP TABLE {ks}.created_users").await.unwrap();
    env.cassandra.run(TABLE).await.unwrap();
    let log = start_rejected(&env).await;
    assert!(
        log.contains("streamer replay") && log.contains("streamer accept-table"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_for_key_of_another_type_works() {
    let env = TestEnv::new("advice", 1).await;
    env.write(&new_users(3)).await;
    env.cassandra.run(KEYSPACE).await.unwrap();
    let table = TABLE.replace("id uuid PRIMARY KEY", "id text PRIMARY KEY");
    env.cassandra.run(&table).await.unwrap();
    let log = start_rejected(&env).await;
    assert!(log.contains("column id has type text, expected uuid"), "{log}");
    assert!(
        log.contains("Set cassandra.table to a new name") && !log.contains("DROP"),
        "{log}"
    );
    let other = env.options().set("cassandra.table", "users");
    let (code, output) = run_command(other.clone(), "replay --from-offset 0 --yes").await;
    assert_eq!(code, Some(0), "{output}");
    let _streamer = env.start(&other).await;
    env.wait_until_caught_up().await;
    let rows = env.cassandra.run("SELECT id FROM {ks}.users").await.unwrap();
    assert_eq!(rows.len(), 3);
}
