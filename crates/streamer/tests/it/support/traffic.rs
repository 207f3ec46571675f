//! Continuous traffic during a test, and waits for its results.

use std::cell::Cell;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use testkit::service::Service;
use uuid::Uuid;

use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};

/// Time between two writes to the topic.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

impl TestEnv {
    /// Runs `work` while 1,200 records are written each second.
    pub(crate) async fn with_traffic<T>(&self, work: impl Future<Output = T>) -> T {
        self.with_traffic_of(100, work).await
    }

    /// Runs `work` while records are written ten times a second: a new version of each of `users` users, and a fifth as
    /// many new users. A row that mixes two versions is detected.
    pub(crate) async fn with_traffic_of<T>(&self, users: usize, work: impl Future<Output = T>) -> T {
        let new = users / 5;
        let users: Vec<_> = new_users(users).into_iter().map(|(id, _)| id).collect();
        let done = Cell::new(false);
        let writes = async {
            let mut version = 0;
            while !done.get() {
                let next = tokio::time::Instant::now() + WRITE_INTERVAL;
                let name = format!("v{version}");
                let records: Vec<(Uuid, &str)> = users.iter().map(|id| (*id, name.as_str())).collect();
                self.write(&records).await;
                self.write(&new_users(new)).await;
                version += 1;
                tokio::time::sleep_until(next).await;
            }
        };
        let work = async {
            let outcome = work.await;
            done.set(true);
            outcome
        };
        tokio::join!(writes, work).1
    }

    /// Waits until the current end offsets are checkpointed. Returns how long it took.
    pub(crate) async fn wait_for_current_ends(&self) -> Duration {
        let started = Instant::now();
        let ends = self.kafka.end_offsets(&self.topic).await.unwrap();
        eventually("the current end offsets are checkpointed", async || {
            let checkpoints = self
                .cassandra
                .checkpoints(&self.topic, &self.topic)
                .await
                .map_err(|error| error.to_string())?;
            let pending: Vec<_> = ends
                .iter()
                .filter(|(partition, end)| {
                    checkpoints
                        .get(partition)
                        .is_none_or(|checkpoint| checkpoint.next_offset < **end)
                })
                .collect();
            if pending.is_empty() {
                Ok(())
            } else {
                Err(format!("pending: {pending:?}, checkpoints: {checkpoints:?}"))
            }
        })
        .await;
        started.elapsed()
    }

    /// Checks that the table matches the topic, and that there is no dead letter.
    pub(crate) async fn assert_nothing_lost_or_rejected(&self) {
        self.wait_until_caught_up().await;
        self.assert_table_matches_topic().await;
        self.assert_no_dead_letters().await;
    }

    /// Checks that there is no dead letter.
    pub(crate) async fn assert_no_dead_letters(&self) {
        let letters = self.kafka.end_offsets(&self.dead_letter_topic()).await.unwrap();
        assert_eq!(letters.values().sum::<i64>(), 0, "dead letters");
    }
}

/// Returns the value of a metric, 0 for a missing series.
pub(crate) async fn metric(streamer: &Service, name: &str, labels: &str) -> f64 {
    streamer.metric(name, labels).await.unwrap().unwrap_or(0.0)
}

/// Waits until `/readyz` returns 503. Returns its body. Liveness must not fail for a dependency.
pub(crate) async fn wait_until_unready(streamer: &Service) -> String {
    let reason = streamer
        .wait_for_readiness(StatusCode::SERVICE_UNAVAILABLE, DEADLINE)
        .await
        .unwrap();
    assert_eq!(streamer.get("/healthz").await.unwrap().0, StatusCode::OK);
    reason.to_string()
}

/// Waits until the streamer exits. Returns its exit code and the last lines of its log.
pub(crate) async fn wait_for_exit(streamer: &Service) -> (Option<i32>, String) {
    match streamer.wait(DEADLINE).await {
        Ok(code) => (code, streamer.last_lines(5)),
        Err(error) => panic!("{error}: {}", streamer.last_lines(10)),
    }
}
