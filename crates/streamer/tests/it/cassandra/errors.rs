//! The reaction to each error of Cassandra: exit code, message, dead letter or retry.
//!
//! `replication` tests errors of several nodes, and `network` tests the connections.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testkit::kafka_client::ProducerRecord;
use testkit::proxy::Proxy;
use testkit::servers::MAX_VALUE_SIZE;
use testkit::service::Service;
use tokio::time::sleep;
use uuid::Uuid;

use crate::support::secured_cassandra::{FrozenNode, exclusive_env, secured_env};
use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users, outgoing, record};
use crate::support::traffic::{metric, wait_for_exit, wait_until_unready};

/// Exit code of an error that only the operator can fix.
const CONFIG_ERROR: Option<i32> = Some(78);

/// Limit for a reaction within seconds, also on a busy machine.
const REACTION_LIMIT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn wrong_or_missing_password_exits_78_with_cause() {
    let env = secured_env("wrongpass", 1).await;
    let none = env.without_login().options();
    let wrong = env.options().set("cassandra.password", "guessed-it");
    for (options, expected) in [
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
        let (code, log) = wait_for_exit(&streamer).await;
        assert_eq!(code, CONFIG_ERROR, "{log}");
        assert!(log.contains(expected), "{log}");
        assert!(!log.contains("guessed-it"), "the log contains a password: {log}");
        assert!(started.elapsed() < REACTION_LIMIT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_password_exits_78_at_next_connection() {
    let env = secured_env("rotated", 3).await;
    let proxy = Proxy::start(env.node()).await.unwrap();
    let options = env
        .options()
        .set("cassandra.contact_points", proxy.address().to_string());
    let streamer = env.start(&options).await;
    env.with_traffic(async {
        env.wait_for_rows(&streamer).await;
        let role = &env.keyspace;
        let change = format!("ALTER ROLE {role} WITH PASSWORD = 'another'");
        // The server limits how often a password can be changed.
        eventually("the password is changed", async || {
            let changed = env.cassandra.run(&change).await;
            changed.map(drop).map_err(|error| error.to_string())
        })
        .await;
        // Open connections stay usable.
        env.wait_for_current_ends().await;
        proxy.reset();
        let (code, log) = wait_for_exit(&streamer).await;
        assert_eq!(code, CONFIG_ERROR, "{log}");
        assert!(
            log.contains("cassandra rejected cassandra.username and cassandra.password"),
            "{log}"
        );
    })
    .await;
    let options = options.set("cassandra.password", "another");
    let _streamer = env.start(&options).await;
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_permission_exits_78_and_grant_resumes() {
    let env = secured_env("revoked", 3).await;
    let mut streamer = env.start(&env.options()).await;
    let (role, keyspace) = (&env.keyspace, &env.keyspace);
    env.with_traffic(async {
        env.wait_for_rows(&streamer).await;
        for resource in [
            format!("KEYSPACE {keyspace}"),
            format!("TABLE {keyspace}.created_users"),
        ] {
            let revoke = format!("REVOKE MODIFY ON {resource} FROM {role}");
            env.cassandra.run(&revoke).await.unwrap();
        }
        let (code, log) = wait_for_exit(&streamer).await;
        assert_eq!(code, CONFIG_ERROR, "{log}");
        assert!(
            log.contains("MODIFY") && log.contains(&format!("{keyspace}.created_users")),
            "{log}"
        );
    })
    .await;
    let grant = format!("GRANT MODIFY ON KEYSPACE {keyspace} TO {role}");
    env.cassandra.run(&grant).await.unwrap();
    streamer.spawn().unwrap();
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn column_dropped_at_runtime_exits_78_with_alter_table() {
    let env = TestEnv::new("column", 3).await;
    let mut streamer = env.streamer().await;
    env.with_traffic(async {
        env.wait_for_rows(&streamer).await;
        let drop = "ALTER TABLE {ks}.created_users DROP phone";
        env.cassandra.run(drop).await.unwrap();
        let (code, log) = wait_for_exit(&streamer).await;
        assert_eq!(code, CONFIG_ERROR, "{log}");
        let remedy = format!("ALTER TABLE {}.created_users ADD \"phone\" text", env.keyspace);
        assert!(log.contains(&remedy), "{log}");
    })
    .await;
    env.assert_no_dead_letters().await;
    let remedy = "ALTER TABLE {ks}.created_users ADD phone text";
    env.cassandra.run(remedy).await.unwrap();
    streamer.spawn().unwrap();
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn column_added_at_runtime_is_ignored() {
    let env = TestEnv::new("added", 3).await;
    let streamer = env.streamer().await;
    env.with_traffic(async {
        env.wait_for_rows(&streamer).await;
        let add = "ALTER TABLE {ks}.created_users ADD extra int";
        env.cassandra.run(add).await.unwrap();
        env.wait_for_current_ends().await;
    })
    .await;
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn table_or_keyspace_dropped_at_runtime_exits_78() {
    for (name, drop) in [
        ("tablegone", "DROP TABLE {ks}.created_users"),
        ("keyspacegone", "DROP KEYSPACE {ks}"),
    ] {
        let env = TestEnv::new(name, 3).await;
        let streamer = env.streamer().await;
        env.with_traffic(async {
            env.wait_for_rows(&streamer).await;
            env.cassandra.run(drop).await.unwrap();
            let (code, log) = wait_for_exit(&streamer).await;
            assert_eq!(code, CONFIG_ERROR, "{log}");
            let has_remedy = log.contains("streamer replay") && log.contains(&env.keyspace);
            assert!(has_remedy, "{name}: {log}");
        })
        .await;
        env.assert_no_dead_letters().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoint_table_dropped_at_runtime_exits_78() {
    let env = TestEnv::new("checkpointsgone", 3).await;
    let streamer = env.streamer().await;
    env.with_traffic(async {
        env.wait_for_rows(&streamer).await;
        let drop = "DROP TABLE {ks}.stream_checkpoints";
        env.cassandra.run(drop).await.unwrap();
        let (code, log) = wait_for_exit(&streamer).await;
        assert_eq!(code, CONFIG_ERROR, "{log}");
        assert!(log.contains("cassandra rejected the checkpoints"), "{log}");
    })
    .await;
    env.assert_no_dead_letters().await;
}

/// The streamer knows what was truncated before it only from its first probe, so a truncation right after the start may
/// count as an earlier one.
#[tokio::test(flavor = "multi_thread")]
async fn truncated_table_is_reported_with_the_remedy() {
    /// Longer than the time between two probes of the table.
    const PROBE: Duration = Duration::from_secs(6);
    let env = TestEnv::new("truncated", 1).await;
    env.write(&new_users(20)).await;
    let streamer = env.streamer().await;
    env.wait_for_current_ends().await;
    let (started, mut truncated) = (Instant::now(), None);
    let report = loop {
        if truncated.is_none_or(|at: Instant| at.elapsed() > PROBE) {
            env.cassandra.run("TRUNCATE {ks}.created_users").await.unwrap();
            truncated = Some(Instant::now());
        }
        let log = streamer.last_lines(50);
        if let Some(report) = log.lines().find(|line| line.contains("the table was truncated")) {
            break report.to_owned();
        }
        assert!(started.elapsed() < DEADLINE, "{log}");
        sleep(Duration::from_millis(100)).await;
    };
    assert!(
        report.contains("streamer replay") && report.contains(&env.keyspace),
        "{report}"
    );
    streamer.wait_until_ready(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_batch_is_split_until_accepted() {
    let env = TestEnv::new("toolarge", 1).await;
    env.write(&new_users(2_000)).await;
    let options = env.options().set("cassandra.statement_bytes", "200KiB");
    let streamer = env.start(&options).await;
    env.assert_nothing_lost_or_rejected().await;
    let rejected = metric(&streamer, "streamer_retries_total", "reason=\"invalid\"").await;
    assert!(rejected > 0.0, "no batch was too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_value_dead_letters_only_its_row() {
    let env = secured_env("rejected", 1).await;
    let (good, long) = (new_users(60), new_users(3));
    let name = "x".repeat(MAX_VALUE_SIZE + 50);
    let email = format!("{name}@x");
    let rejected = long.iter().map(|(id, _)| {
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
    for (index, record) in rejected.enumerate() {
        records.insert(index * 25, record);
    }
    env.kafka.write(&env.topic, &records).await.unwrap();
    let streamer = env.start(&env.options()).await;
    env.wait_until_caught_up().await;

    let rows: Vec<Uuid> = env.users().await.into_keys().collect();
    assert_eq!(rows.len(), good.len());
    assert!(good.iter().all(|(id, _)| rows.contains(id)));
    let letters = env.kafka.read(&env.dead_letter_topic()).await.unwrap();
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
async fn frozen_node_fails_readiness_and_loses_nothing() {
    let env = exclusive_env("frozen", 3).await;
    let streamer = env.start(&env.options()).await;
    env.with_traffic(async {
        env.wait_for_rows(&streamer).await;
        let frozen = FrozenNode::new(env.server()).await;
        eventually("a request times out", async || {
            let poisoned = metric(&streamer, "streamer_retries_total", "session_poisoned").await;
            let unsaved = metric(&streamer, "streamer_checkpoints_total", "failed").await;
            if poisoned + unsaved > 0.0 {
                Ok(())
            } else {
                Err("none yet".to_owned())
            }
        })
        .await;
        let reason = wait_until_unready(&streamer).await;
        assert!(reason.contains("cassandra"), "{reason}");
        drop(frozen);
        streamer.wait_until_ready(REACTION_LIMIT).await.unwrap();
        env.wait_for_current_ends().await;
    })
    .await;
    env.assert_nothing_lost_or_rejected().await;
}

/// A node forgets the statements of a table whose columns change.
#[tokio::test(flavor = "multi_thread")]
async fn forgotten_statements_cost_no_session() {
    let env = TestEnv::new("forgotten", 3).await;
    // Above any pause of a busy machine.
    let options = env.options().set("cassandra.request_timeout", "30s");
    let streamer = env.start(&options).await;
    env.with_traffic_of(20, async {
        env.wait_for_rows(&streamer).await;
        for table in ["created_users", "stream_checkpoints"] {
            let alter = format!("ALTER TABLE {{ks}}.{table} ADD note text");
            env.cassandra.run(&alter).await.unwrap();
            env.wait_for_current_ends().await;
        }
    })
    .await;
    env.wait_until_caught_up().await;
    env.assert_no_dead_letters().await;
    for (name, labels) in [
        ("streamer_retries_total", "session_poisoned"),
        ("streamer_checkpoints_total", "failed"),
    ] {
        assert_eq!(metric(&streamer, name, labels).await, 0.0, "{name} {labels}");
    }
}
