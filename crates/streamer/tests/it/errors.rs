//! What each error of Cassandra leads to, one test for each: exit code, message, dead letter, retry metric. Records flow
//! meanwhile. What needs several nodes is in `replication`, what the network does in `network`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testkit::kafka_client::ProducerRecord;
use testkit::proxy::Proxy;
use testkit::service::Service;
use uuid::Uuid;

use crate::flow::{ends, metric, turns_unready};
use crate::guarded::{Frozen, LONGEST_VALUE, alone, guarded};
use crate::world::{World, eventually, outgoing, people, record};

/// The code for what only the operator can mend.
const CONFIG: Option<i32> = Some(78);

/// Within seconds, also on a busy machine.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_none_ends_the_start_with_78_and_the_cause() {
    let world = guarded("wrongpass", 1).await;
    let none = world.world().options();
    let wrong = world.options().set("cassandra.password", "guessed-it");
    for (options, says) in [
        (
            wrong,
            "cassandra rejected cassandra.username and cassandra.password",
        ),
        (
            none,
            "the node requires authentication: set cassandra.username and cassandra.password",
        ),
    ] {
        let started = Instant::now();
        let streamer = Service::start(&options).unwrap();
        let (code, log) = ends(&streamer).await;
        assert_eq!(code, CONFIG, "{log}");
        assert!(log.contains(says), "{log}");
        assert!(!log.contains("guessed-it"), "a password in the log: {log}");
        assert!(started.elapsed() < SOON);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_logs_in_writes_rows_and_a_password_changed_later_is_told_at_the_next_connection() {
    let world = guarded("rotated", 3).await;
    let proxy = Proxy::start(world.node()).await.unwrap();
    let options = world
        .options()
        .set("cassandra.contact_points", proxy.address().to_string());
    let streamer = world.start(&options).await;
    world
        .while_records_flow(async {
            world.busy(&streamer).await;
            let role = &world.keyspace;
            let change = format!("ALTER ROLE {role} WITH PASSWORD = 'another'");
            // A server lets a password be changed only so often.
            eventually("the password is another", async || {
                let changed = world.table.run(&change).await;
                changed.map(drop).map_err(|error| error.to_string())
            })
            .await;
            // The connections there are stay.
            world.goes_on().await;
            proxy.reset();
            let (code, log) = ends(&streamer).await;
            assert_eq!(code, CONFIG, "{log}");
            assert!(
                log.contains("cassandra rejected cassandra.username and cassandra.password"),
                "{log}"
            );
        })
        .await;
    let options = options.set("cassandra.password", "another");
    let _streamer = world.start(&options).await;
    world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_taken_away_stops_it_with_78_and_a_grant_given_back_lets_it_go_on() {
    let world = guarded("revoked", 3).await;
    let mut streamer = world.start(&world.options()).await;
    let (role, keyspace) = (&world.keyspace, &world.keyspace);
    world
        .while_records_flow(async {
            world.busy(&streamer).await;
            for resource in [
                format!("KEYSPACE {keyspace}"),
                format!("TABLE {keyspace}.created_users"),
            ] {
                let revoke = format!("REVOKE MODIFY ON {resource} FROM {role}");
                world.table.run(&revoke).await.unwrap();
            }
            let (code, log) = ends(&streamer).await;
            assert_eq!(code, CONFIG, "{log}");
            assert!(
                log.contains("MODIFY") && log.contains(&format!("{keyspace}.created_users")),
                "{log}"
            );
        })
        .await;
    let grant = format!("GRANT MODIFY ON KEYSPACE {keyspace} TO {role}");
    world.table.run(&grant).await.unwrap();
    streamer.spawn().unwrap();
    world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_dropped_while_records_flow_stops_it_with_the_statement_that_mends_it_and_refuses_no_record()
{
    let world = World::new("column", 3).await;
    let mut streamer = world.streamer().await;
    world
        .while_records_flow(async {
            world.busy(&streamer).await;
            let drop = "ALTER TABLE {ks}.created_users DROP phone";
            world.table.run(drop).await.unwrap();
            let (code, log) = ends(&streamer).await;
            assert_eq!(code, CONFIG, "{log}");
            let mend = format!("ALTER TABLE {}.created_users ADD phone text", world.keyspace);
            assert!(log.contains(&mend), "{log}");
        })
        .await;
    world.nothing_is_refused().await;
    let mend = "ALTER TABLE {ks}.created_users ADD phone text";
    world.table.run(mend).await.unwrap();
    streamer.spawn().unwrap();
    world.caught_up().await;
    world.nothing_is_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_added_while_records_flow_is_none_of_its_business() {
    let world = World::new("added", 3).await;
    let streamer = world.streamer().await;
    world
        .while_records_flow(async {
            world.busy(&streamer).await;
            let add = "ALTER TABLE {ks}.created_users ADD of_ours int";
            world.table.run(add).await.unwrap();
            world.goes_on().await;
        })
        .await;
    world.nothing_is_lost_or_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_or_keyspace_dropped_while_records_flow_stops_it_with_its_name_and_refuses_no_record() {
    for (name, drop) in [
        ("tablegone", "DROP TABLE {ks}.created_users"),
        ("keyspacegone", "DROP KEYSPACE {ks}"),
    ] {
        let world = World::new(name, 3).await;
        let streamer = world.streamer().await;
        world
            .while_records_flow(async {
                world.busy(&streamer).await;
                world.table.run(drop).await.unwrap();
                let (code, log) = ends(&streamer).await;
                assert_eq!(code, CONFIG, "{log}");
                let says = log.contains("streamer replay") && log.contains(&world.keyspace);
                assert!(says, "{name}: {log}");
            })
            .await;
        world.nothing_is_refused().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_for_the_server_is_halved_until_it_is_not() {
    let world = World::new("toolarge", 1).await;
    world.write(&people(2_000)).await;
    let options = world.options().set("cassandra.statement_bytes", "200KiB");
    let streamer = world.start(&options).await;
    world.nothing_is_lost_or_refused().await;
    let refused = metric(&streamer, "streamer_retries_total", "reason=\"invalid\"").await;
    assert!(refused > 0.0, "no batch was too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_server_refuses_costs_that_row_alone() {
    let world = guarded("refused", 1).await;
    let (good, long) = (people(60), people(3));
    let name = "x".repeat(LONGEST_VALUE + 50);
    let email = format!("{name}@x");
    let refused = long.iter().map(|(id, _)| {
        let value = String::from_utf8(record(*id, "x")).unwrap();
        ProducerRecord {
            value: Some(
                value
                    .replace(r#""email":"x@x""#, &format!(r#""email":"{email}""#))
                    .into_bytes(),
            ),
            ..outgoing(*id, "x")
        }
    });
    let mut records: Vec<_> = good.iter().map(|(id, name)| outgoing(*id, name)).collect();
    for (place, record) in refused.enumerate() {
        records.insert(place * 25, record);
    }
    world.tap.write(&world.topic, &records).await.unwrap();
    let streamer = world.start(&world.options()).await;
    world.caught_up().await;

    let rows: Vec<Uuid> = world.users().await.into_keys().collect();
    assert_eq!(rows.len(), good.len());
    assert!(good.iter().all(|(id, _)| rows.contains(id)));
    let letters = world.tap.read(&world.dead_letter_topic()).await.unwrap();
    let offsets: BTreeSet<_> = letters
        .iter()
        .map(|letter| letter.header("dlq-offset").unwrap())
        .collect();
    assert_eq!(offsets, BTreeSet::from(["0", "25", "50"]));
    assert_eq!(letters.len(), 3);
    for letter in &letters {
        assert_eq!(letter.header("dlq-reason"), Some("refused_by_cassandra"));
        let error = letter.header("dlq-error").unwrap();
        assert!(error.contains("email"), "{error}");
    }
    let counted = metric(&streamer, "streamer_dead_letters_total", "refused_by_cassandra").await;
    assert!((counted - 3.0).abs() < f64::EPSILON, "{counted}");
    assert!(metric(&streamer, "streamer_retries_total", "reason=\"invalid\"").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_is_told_and_waited_for_and_nothing_is_lost() {
    let world = alone("frozen", 3).await;
    let streamer = world.start(&world.options()).await;
    world
        .while_records_flow(async {
            world.busy(&streamer).await;
            let frozen = Frozen::new(world.server()).await;
            eventually("a call is overdue", async || {
                let overdue = metric(&streamer, "streamer_retries_total", "session_poisoned").await;
                let unsaved = metric(&streamer, "streamer_checkpoints_total", "failed").await;
                if overdue + unsaved > 0.0 {
                    Ok(())
                } else {
                    Err("none yet".to_owned())
                }
            })
            .await;
            let reason = turns_unready(&streamer).await;
            assert!(reason.contains("cassandra"), "{reason}");
            drop(frozen);
            streamer.wait_until_ready(SOON).await.unwrap();
            world.goes_on().await;
        })
        .await;
    world.nothing_is_lost_or_refused().await;
}
