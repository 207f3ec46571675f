//! Runs the operator's commands, and reads the rows that they change.

use std::collections::BTreeMap;

use cdrs_tokio::types::ByName as _;
use testkit::cassandra_client::UserRow;
use testkit::kafka_client::ProducerRecord;
use testkit::service::{Service, ServiceOptions};
use uuid::Uuid;

use crate::support::test_env::{DEADLINE, TestEnv, new_users};

/// Runs a command to its end. Returns its exit code and its output.
pub(crate) async fn run_command(options: ServiceOptions, arguments: &str) -> (Option<i32>, String) {
    let log = format!("command-{}", Uuid::new_v4().simple());
    let options = arguments
        .split_whitespace()
        .fold(options.log_name(log), |options, argument| options.arg(argument));
    let command = Service::start(&options).unwrap();
    let code = command.wait(DEADLINE).await.unwrap();
    (code, command.last_lines(100))
}

/// Runs a command that must exit 0. Returns its output.
pub(crate) async fn run_successfully(env: &TestEnv, arguments: &str) -> String {
    let (code, output) = run_command(env.options(), arguments).await;
    assert_eq!(code, Some(0), "{arguments}: {output}");
    output
}

/// Asserts that `streamer verify` finds each row as the topic has it.
pub(crate) async fn assert_verified(options: ServiceOptions) {
    let (code, output) = run_command(options, "verify").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.ends_with("different: 0"), "{output}");
}

/// Terminates the streamer, which must exit 0.
pub(crate) async fn stop(streamer: &mut Service) {
    assert_eq!(streamer.terminate(DEADLINE).await.unwrap(), Some(0));
}

/// Returns the write timestamp of each user's row.
pub(crate) async fn write_timestamps(env: &TestEnv) -> BTreeMap<Uuid, i64> {
    let rows = env
        .cassandra
        .run("SELECT id, WRITETIME(email) AS at FROM {ks}.created_users")
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let at: i64 = row.by_name("at").unwrap().unwrap();
            (row.by_name("id").unwrap().unwrap(), at)
        })
        .collect()
}

/// Returns all rows, and their write timestamps.
pub(crate) async fn rows(env: &TestEnv) -> (BTreeMap<Uuid, UserRow>, BTreeMap<Uuid, i64>) {
    (env.users().await, write_timestamps(env).await)
}

/// Returns the time an hour ago, in milliseconds since 1970. Kafka keeps records of that age.
pub(crate) fn an_hour_ago() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_millis()).unwrap() - 3_600_000
}

/// Creates `count` user ids.
pub(crate) fn new_ids(count: usize) -> Vec<Uuid> {
    new_users(count).into_iter().map(|(id, _)| id).collect()
}

/// Creates a record that deletes a user.
pub(crate) fn tombstone(id: Uuid) -> ProducerRecord {
    ProducerRecord {
        key: Some(id.to_string().into_bytes()),
        ..ProducerRecord::default()
    }
}
