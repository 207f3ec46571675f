//! Tables that are not what is needed are refused before anything is read; a lost table is never passed over.

use crate::world::{DEADLINE, World, people};
use testkit::service::Service;

const KEYSPACE: &str =
    "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
const TABLE: &str = "CREATE TABLE {ks}.created_users (id uuid PRIMARY KEY, first_name text, last_name text, gender text, \
                     address text, post_code text, email text, username text, dob text, registered_date text, phone text, \
                     picture text, ingested_at timestamp)";

async fn refused(world: &World) -> String {
    let streamer = Service::start(&world.options()).unwrap();
    assert_eq!(
        streamer.wait(DEADLINE).await.unwrap(),
        Some(78),
        "{}",
        streamer.last_lines(10)
    );
    streamer.last_lines(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_column_is_named_with_the_statement_that_mends_it() {
    let world = World::new("missing", 1).await;
    world.table.run(KEYSPACE).await.unwrap();
    world.table.run(&TABLE.replace("phone text, ", "")).await.unwrap();
    let log = refused(&world).await;
    assert!(
        log.contains(&format!(
            "ALTER TABLE {}.created_users ADD phone text",
            world.keyspace
        )),
        "{log}"
    );
    world
        .table
        .run("ALTER TABLE {ks}.created_users ADD phone text")
        .await
        .unwrap();
    let _streamer = world.streamer().await;
    world.write(&people(1)).await;
    world.caught_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_type_or_another_key_is_refused_column_by_column() {
    let world = World::new("types", 1).await;
    world.table.run(KEYSPACE).await.unwrap();
    let table = TABLE
        .replace("post_code text", "post_code int")
        .replace("id uuid PRIMARY KEY", "id text PRIMARY KEY");
    world.table.run(&table).await.unwrap();
    let log = refused(&world).await;
    assert!(log.contains("column id has type text, expected uuid"), "{log}");
    assert!(
        log.contains("column post_code has type int, expected text"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_originals_table_with_its_text_instants_and_more_columns_is_written_as_it_is() {
    let world = World::new("takeover", 1).await;
    world.table.run(KEYSPACE).await.unwrap();
    world
        .table
        .run(&TABLE.replace("phone text", "phone text, of_ours int"))
        .await
        .unwrap();
    let _streamer = world.streamer().await;
    let users = people(1);
    world.write(&users).await;
    world.caught_up().await;
    let rows = world
        .table
        .run("SELECT dob FROM {ks}.created_users")
        .await
        .unwrap();
    let dob: String = cdrs_tokio::types::ByName::by_name(&rows[0], "dob")
        .unwrap()
        .unwrap();
    assert_eq!(dob, "1969-07-20T20:17:40.000Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_stops_the_streamer_and_is_not_quietly_created_again() {
    let world = World::new("dropped", 1).await;
    let streamer = world.streamer().await;
    world.write(&people(5)).await;
    world.caught_up().await;
    world.table.run("DROP TABLE {ks}.created_users").await.unwrap();
    assert_eq!(
        streamer.wait(DEADLINE).await.unwrap(),
        Some(78),
        "{}",
        streamer.last_lines(10)
    );
    let log = refused(&world).await;
    assert!(
        log.contains("streamer replay") && log.contains("CREATE TABLE"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_dropped_and_created_anew_stops_the_start_with_the_choice() {
    let world = World::new("anew", 1).await;
    let mut streamer = world.streamer().await;
    world.write(&people(5)).await;
    world.caught_up().await;
    streamer.terminate(DEADLINE).await.unwrap();
    world.table.run("DROP TABLE {ks}.created_users").await.unwrap();
    world.table.run(TABLE).await.unwrap();
    let log = refused(&world).await;
    assert!(
        log.contains("streamer replay") && log.contains("streamer accept-table"),
        "{log}"
    );
}
