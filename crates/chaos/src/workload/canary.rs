//! Measures recovery: the time until a new record becomes a row.

use std::time::{Duration, Instant};

use model::Key;
use testkit::cassandra_client::{CassandraClient, CassandraClientError};
use tokio::time::{sleep, timeout};

use super::records::{Body, RecordGenerator};
use super::{Positions, REQUEST_INTERVAL, Workload};

/// For a query; a session that exceeds it is replaced.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

impl Workload {
    /// Posts a new record until it is acknowledged, and waits for its row; returns the seconds since `from`.
    pub(crate) async fn recovery_seconds(
        &self,
        from: Instant,
        contact_points: &[String],
        limit: Duration,
    ) -> Option<f64> {
        let until = from + limit;
        let canary = RecordGenerator::new(self.contract().clone(), self.seed ^ 0xf7e5).new_record();
        let key = canary.id.as_ref()?.key.clone();
        let connect = async || {
            let client = CassandraClient::connect(contact_points, self.topic.as_str()).await?;
            Ok::<_, CassandraClientError>(client.for_record(self.contract().clone(), self.record.table()))
        };
        let (acknowledged, connected) = tokio::join!(self.post_until_acked(canary, &key, until), connect());
        if !acknowledged {
            return None;
        }
        let mut session = connected.ok();
        while Instant::now() < until {
            let Some(known) = &session else {
                session = connect().await.ok();
                continue;
            };
            match timeout(QUERY_TIMEOUT, known.rows_of_key(&key)).await {
                Ok(Ok(rows)) if !rows.is_empty() => return Some(from.elapsed().as_secs_f64()),
                Ok(Ok(_)) => sleep(REQUEST_INTERVAL).await,
                Ok(Err(_)) | Err(_) => session = None,
            }
        }
        None
    }

    /// Returns whether it is acknowledged in time.
    async fn post_until_acked(&self, canary: Body, key: &Key, until: Instant) -> bool {
        let batch = [canary];
        while Instant::now() < until && !self.is_acked(key) {
            self.post(&batch, Positions::Requested, None).await;
            sleep(REQUEST_INTERVAL).await;
        }
        self.is_acked(key)
    }

    fn is_acked(&self, key: &Key) -> bool {
        self.ack_log()
            .acked
            .iter()
            .any(|record| record.key.as_ref() == Some(key))
    }
}
