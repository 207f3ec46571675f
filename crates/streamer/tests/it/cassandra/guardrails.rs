//! Guardrails refuse every row or every checkpoint, with the error code of invalid values. That is an outage, and no row is at
//! fault. They do not apply to superusers, so the streamer logs in with a role.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt as _;
use testkit::servers::ServerError;
use testkit::service::Service;
use tokio::time::sleep;

use super::authorization::wait_until_unready_for;
use crate::support::assignment::wait_for_even_assignment;
use crate::support::secured_cassandra::{SecuredEnv, exclusive_env};
use crate::support::test_env::{DEADLINE, eventually, new_users};
use crate::support::traffic::metric;

/// A guardrail that `nodetool setguardrailsconfig` changes while the node runs.
struct Guardrail {
    name: &'static str,
    on: &'static [&'static str],
    off: &'static [&'static str],
}

/// Forbids the write timestamps that rows, probes and checkpoints have.
const USER_TIMESTAMPS: Guardrail = Guardrail {
    name: "user_timestamps_enabled",
    on: &["false"],
    off: &["true"],
};

/// Limits the values outside of keys to 12 bytes, without a limit for warnings. Those of the test's rows are shorter. A
/// checkpoint has two UUIDs of 16 bytes.
const VALUE_SIZE: Guardrail = Guardrail {
    name: "column_value_size_threshold",
    on: &["12B", "null"],
    off: &["null", "null"],
};

/// Forbids the consistency level of the streamer's reads.
const READ_CONSISTENCY: Guardrail = Guardrail {
    name: "read_consistency_levels_disallowed",
    on: &["LOCAL_QUORUM"],
    off: &["null"],
};

/// Longer than a start waits for a table that only some nodes know.
const OBSERVED: Duration = Duration::from_secs(12);

impl Guardrail {
    /// Runs `work` while the guardrail is on. Another test uses the node later, so it is off again also if `work` panics.
    async fn during<T>(&self, env: &SecuredEnv, work: impl Future<Output = T>) -> T {
        self.set(env, self.on).await.unwrap();
        let outcome = AssertUnwindSafe(work).catch_unwind().await;
        let off = self.set(env, self.off).await;
        let outcome = outcome.unwrap_or_else(|panic| resume_unwind(panic));
        off.unwrap();
        outcome
    }

    async fn set(&self, env: &SecuredEnv, values: &[&str]) -> Result<(), ServerError> {
        let mut arguments = vec!["setguardrailsconfig", self.name];
        arguments.extend(values);
        env.nodetool().run(&arguments).await
    }
}

/// Waits until a metric has grown by `more`.
async fn wait_for_more(streamer: &Service, name: &str, labels: &str, more: f64) {
    let before = metric(streamer, name, labels).await;
    eventually("the metric grows", async || {
        let now = metric(streamer, name, labels).await;
        if now >= before + more {
            Ok(())
        } else {
            Err(format!("{name} {labels}: {now}, before {before}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guardrail_against_rows_is_an_outage_and_no_dead_letter() {
    const REASON: &str = "cassandra refuses every row: Guardrail user_timestamps violated";
    let env = exclusive_env("guardrail", 3).await;
    let streamer = env.start(&env.options()).await;
    env.with_traffic_of(20, async {
        env.wait_for_current_ends().await;
        let refused = async {
            wait_until_unready_for(&streamer, &[REASON]).await;
            // The rows are sent again and refused again.
            wait_for_more(&streamer, "streamer_retries_total", "reason=\"invalid\"", 100.0).await;
            wait_until_unready_for(&streamer, &[REASON]).await;
            assert_eq!(metric(&streamer, "streamer_dead_letters_total", "").await, 0.0);
            // A start in the meantime waits, too: the time to live is not at fault. The records are from 2023.
            let options = env.options().set("kafka.group", "started_later");
            let options = options.set("cassandra.row_ttl", "87600h").log_name("later");
            let later = Service::start(&options).unwrap();
            wait_until_unready_for(&later, &["Guardrail user_timestamps violated"]).await;
            later
        };
        let later = USER_TIMESTAMPS.during(&env, refused).await;
        later.wait_until_ready(DEADLINE).await.unwrap();
        streamer.wait_until_ready(DEADLINE).await.unwrap();
        env.wait_for_current_ends().await;
    })
    .await;
    env.assert_nothing_lost_or_rejected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guardrail_against_checkpoints_is_an_outage() {
    const REASON: &str = "cassandra refuses checkpoints: Guardrail column_value_size violated";
    let env = exclusive_env("guardrail_checkpoints", 3).await;
    let streamer = env.start(&env.options()).await;
    env.with_traffic_of(20, async {
        env.wait_for_current_ends().await;
        let refused = async {
            wait_until_unready_for(&streamer, &[REASON]).await;
            let checkpoints = env.checkpoint_sum().await;
            wait_for_more(&streamer, "streamer_checkpoints_total", "outcome=\"failed\"", 3.0).await;
            // Rows are written meanwhile, which does not make Cassandra ready.
            wait_for_more(&streamer, "streamer_rows_total", "", 100.0).await;
            wait_until_unready_for(&streamer, &[REASON]).await;
            assert_eq!(env.checkpoint_sum().await, checkpoints);
        };
        VALUE_SIZE.during(&env, refused).await;
        streamer.wait_until_ready(DEADLINE).await.unwrap();
        env.wait_for_current_ends().await;
    })
    .await;
    env.assert_nothing_lost_or_rejected().await;
}

/// Checkpoints are read at an assignment and at a start. The topic is idle, so that nothing else is refused.
#[tokio::test(flavor = "multi_thread")]
async fn guardrail_against_reads_is_an_outage() {
    const REASON: &str = "cassandra refuses checkpoints: Guardrail read_consistency_levels violated";
    let env = exclusive_env("guardrail_reads", 2).await;
    let first = env.start(&env.options()).await;
    env.write(&new_users(50)).await;
    env.wait_until_caught_up().await;
    let mut second = env.start(&env.options().log_name("second")).await;
    wait_for_even_assignment(&[&first, &second], 2).await;
    let refused = async {
        second.terminate(DEADLINE).await.unwrap();
        wait_until_unready_for(&first, &[REASON]).await;
        let third = Service::start(&env.options().log_name("third")).unwrap();
        wait_until_unready_for(&third, &[REASON]).await;
        sleep(OBSERVED).await;
        wait_until_unready_for(&third, &[REASON]).await;
        third
    };
    let third = READ_CONSISTENCY.during(&env, refused).await;
    first.wait_until_ready(DEADLINE).await.unwrap();
    third.wait_until_ready(DEADLINE).await.unwrap();
    wait_for_even_assignment(&[&first, &third], 2).await;
    env.write(&new_users(50)).await;
    env.assert_nothing_lost_or_rejected().await;
}
