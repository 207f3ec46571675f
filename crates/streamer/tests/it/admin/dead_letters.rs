//! The command `dead-letters list`: its filters and its limit.

use testkit::kafka_client::ProducerRecord;

use crate::support::commands::{run_command, run_successfully, tombstone};
use crate::support::test_env::{TestEnv, new_users};

/// An invalid record in this partition, with this key.
fn garbage(partition: i32, key: &str) -> ProducerRecord {
    ProducerRecord {
        partition: Some(partition),
        key: Some(key.as_bytes().to_vec()),
        value: Some(b"garbage".to_vec()),
        ..ProducerRecord::default()
    }
}

/// Returns the positions of the listed dead letters, sorted.
async fn listed(env: &TestEnv, filters: &str) -> Vec<String> {
    let output = run_successfully(env, &format!("dead-letters list {filters}")).await;
    let lines = output.lines().filter(|line| !line.starts_with("dead letters: "));
    let first = lines.filter_map(|line| line.split_whitespace().next());
    let mut positions: Vec<_> = first.map(str::to_owned).collect();
    positions.sort();
    positions
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_by_each_filter() {
    let env = TestEnv::new("filters", 2).await;
    let _streamer = env.streamer().await;
    let nil = ProducerRecord {
        partition: Some(1),
        key: Some(b"no uuid".to_vec()),
        ..tombstone(new_users(1)[0].0)
    };
    env.kafka
        .write(
            &env.topic,
            &[garbage(0, "a"), garbage(0, "b"), garbage(1, "a"), nil],
        )
        .await
        .unwrap();
    env.wait_until_caught_up().await;
    assert_eq!(listed(&env, "").await, ["0:0", "0:1", "1:0", "1:1"]);
    assert_eq!(listed(&env, "--partition 1").await, ["1:0", "1:1"]);
    assert_eq!(listed(&env, "--key a").await, ["0:0", "1:0"]);
    assert_eq!(listed(&env, "--reason tombstone_without_id").await, ["1:1"]);
    assert_eq!(listed(&env, "--key a --partition 0").await, ["0:0"]);
    assert_eq!(
        listed(&env, "--since 2100-01-01T00:00:00Z").await,
        Vec::<String>::new()
    );
    assert_eq!(listed(&env, "--since 2020-01-01T00:00:00Z").await.len(), 4);

    let output = run_successfully(&env, "dead-letters list --limit 3").await;
    assert!(
        output.contains("dead letters: 3") && output.contains("stopped at --limit"),
        "{output}"
    );
    let output = run_successfully(&env, "dead-letters list --limit 1 --json").await;
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_reason_is_refused_with_the_known_ones() {
    let env = TestEnv::without_topic("reasons").await;
    for command in ["dead-letters list", "redrive"] {
        let (code, output) = run_command(env.options(), &format!("{command} --reason malfromed")).await;
        assert_eq!(code, Some(2), "{output}");
        for known in ["malformed", "not_a_uuid", "tombstone", "refused_by_cassandra"] {
            assert!(output.contains(known), "{command} names {known}: {output}");
        }
    }
}
