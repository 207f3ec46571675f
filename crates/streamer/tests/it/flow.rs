//! Records that flow while something else happens, and what there is to see of it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use testkit::service::Service;
use uuid::Uuid;

use crate::world::{DEADLINE, World, eventually, people};

/// Between two writes to the topic.
const BEAT: Duration = Duration::from_millis(100);

impl World {
    /// Does `work` while records flow: 1,200 in a second.
    pub(crate) async fn while_records_flow<T>(&self, work: impl Future<Output = T>) -> T {
        self.while_flowing(100, work).await
    }

    /// Does `work` while records flow: ten times a second so many users in version after version, so that a row that
    /// mixes two shows, and a fifth as many new ones.
    pub(crate) async fn while_flowing<T>(&self, users: usize, work: impl Future<Output = T>) -> T {
        let new = users / 5;
        let users: Vec<_> = people(users).into_iter().map(|(id, _)| id).collect();
        let done = Cell::new(false);
        let feed = async {
            let mut version = 0;
            while !done.get() {
                let next = tokio::time::Instant::now() + BEAT;
                let name = format!("v{version}");
                let records: Vec<(Uuid, &str)> = users.iter().map(|id| (*id, name.as_str())).collect();
                self.write(&records).await;
                self.write(&people(new)).await;
                version += 1;
                tokio::time::sleep_until(next).await;
            }
        };
        let work = async {
            let outcome = work.await;
            done.set(true);
            outcome
        };
        tokio::join!(feed, work).1
    }

    /// Waits until everything that is in the topic now is checkpointed; returns how long it took.
    pub(crate) async fn goes_on(&self) -> Duration {
        let started = Instant::now();
        let ends = self.tap.end_offsets(&self.topic).await.unwrap();
        eventually("what is in the topic is checkpointed", async || {
            let checkpoints = self
                .table
                .checkpoints(&self.topic, &self.topic)
                .await
                .map_err(|error| error.to_string())?;
            let open: Vec<_> = ends
                .iter()
                .filter(|(partition, end)| {
                    checkpoints
                        .get(partition)
                        .is_none_or(|checkpoint| checkpoint.next_offset < **end)
                })
                .collect();
            if open.is_empty() {
                Ok(())
            } else {
                Err(format!("not reached: {open:?}, {checkpoints:?}"))
            }
        })
        .await;
        started.elapsed()
    }

    /// The end of a test: all of the log is in the table, and nothing was refused.
    pub(crate) async fn nothing_is_lost_or_refused(&self) {
        self.caught_up().await;
        self.table_is_the_log().await;
        self.nothing_is_refused().await;
    }

    /// There is no dead letter.
    pub(crate) async fn nothing_is_refused(&self) {
        let letters = self.tap.end_offsets(&self.dead_letter_topic()).await.unwrap();
        assert_eq!(letters.values().sum::<i64>(), 0, "dead letters");
    }
}

/// A metric, 0 where there is no series.
pub(crate) async fn metric(streamer: &Service, name: &str, labels: &str) -> f64 {
    streamer.metric(name, labels).await.unwrap().unwrap_or(0.0)
}

/// Waits until `/readyz` answers 503; returns what it says. Liveness must not fail for a dependency.
pub(crate) async fn turns_unready(streamer: &Service) -> String {
    let reason = streamer
        .wait_for_readiness(StatusCode::SERVICE_UNAVAILABLE, DEADLINE)
        .await
        .unwrap();
    assert_eq!(streamer.get("/healthz").await.unwrap().0, StatusCode::OK);
    reason.to_string()
}

/// Waits until it ends by itself; returns the exit code and the last lines of its log.
pub(crate) async fn ends(streamer: &Service) -> (Option<i32>, String) {
    match streamer.wait(DEADLINE).await {
        Ok(code) => (code, streamer.last_lines(5)),
        Err(error) => panic!("{error}: {}", streamer.last_lines(10)),
    }
}
