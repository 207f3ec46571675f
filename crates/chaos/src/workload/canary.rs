//! Measures recovery: the time until a new user becomes a row.

use std::time::{Duration, Instant};

use testkit::cassandra_client::CassandraClient;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::users::{Body, UserGenerator};
use super::{Positions, REQUEST_INTERVAL, Workload};

/// For a query; a session that exceeds it is replaced.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

impl Workload {
    /// Posts a new user until it is acknowledged, and waits for its row; returns the seconds since `from`.
    pub(crate) async fn recovery_seconds(
        &self,
        from: Instant,
        contact_points: &[String],
        limit: Duration,
    ) -> Option<f64> {
        let until = from + limit;
        let canary = UserGenerator::new(self.seed ^ 0xf7e5).new_user();
        let id = canary.id?;
        let query = format!("SELECT id FROM {{ks}}.created_users WHERE id = {id}");
        let connect = || CassandraClient::connect(contact_points, self.topic.as_str());
        let (acknowledged, connected) = tokio::join!(self.post_until_acked(canary, id, until), connect());
        if !acknowledged {
            return None;
        }
        let mut session = connected.ok();
        while Instant::now() < until {
            let Some(known) = &session else {
                session = connect().await.ok();
                continue;
            };
            match timeout(QUERY_TIMEOUT, known.run(&query)).await {
                Ok(Ok(rows)) if !rows.is_empty() => return Some(from.elapsed().as_secs_f64()),
                Ok(Ok(_)) => sleep(REQUEST_INTERVAL).await,
                Ok(Err(_)) | Err(_) => session = None,
            }
        }
        None
    }

    /// Returns whether it is acknowledged in time.
    async fn post_until_acked(&self, canary: Body, id: Uuid, until: Instant) -> bool {
        let batch = [canary];
        while Instant::now() < until && !self.is_acked(id) {
            self.post(&batch, Positions::Requested).await;
            sleep(REQUEST_INTERVAL).await;
        }
        self.is_acked(id)
    }

    fn is_acked(&self, id: Uuid) -> bool {
        self.ledger().acked.iter().any(|record| record.id == Some(id))
    }
}
