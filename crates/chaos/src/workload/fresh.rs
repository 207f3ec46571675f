//! One new user, from the first attempt to post it to its row.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::mint::{Mint, Minted};
use super::{BREATH, Places, Workload};
use testkit::cassandra_client::CassandraClient;

/// For a row that is asked for; a session that is silent so long is given up.
const REPLY: Duration = Duration::from_secs(2);

impl Workload {
    /// Posts one new user again and again until it is acknowledged, and waits for its row; returns the seconds since `from`.
    /// The oracle's own way to Cassandra is made meanwhile, and anew where it is silent.
    pub async fn fresh(&self, from: Instant, points: &[String], deadline: Duration) -> Option<f64> {
        let until = from + deadline;
        let probe = Mint::new(self.seed ^ 0xf7e5).person();
        let id = probe.id?;
        let query = format!("SELECT id FROM {{ks}}.created_users WHERE id = {id}");
        let connect = || CassandraClient::connect(points, self.topic.as_str());
        let (acknowledged, connected) = tokio::join!(self.insist(probe, until), connect());
        if !acknowledged {
            return None;
        }
        let mut table = connected.ok();
        while Instant::now() < until {
            let Some(known) = &table else {
                table = connect().await.ok();
                continue;
            };
            match timeout(REPLY, known.run(&query)).await {
                Ok(Ok(rows)) if !rows.is_empty() => return Some(from.elapsed().as_secs_f64()),
                Ok(Ok(_)) => sleep(BREATH).await,
                Ok(Err(_)) | Err(_) => table = None,
            }
        }
        None
    }

    /// Whether it is acknowledged in time.
    async fn insist(&self, probe: Minted, until: Instant) -> bool {
        let Some(id) = probe.id else { return false };
        let batch = [probe];
        while Instant::now() < until && !self.obliges(id) {
            self.post(&batch, Places::Told).await;
            sleep(BREATH).await;
        }
        self.obliges(id)
    }

    fn obliges(&self, id: Uuid) -> bool {
        let ledger = self.ledger();
        ledger
            .obligations
            .iter()
            .any(|obligation| obligation.id == Some(id))
    }
}
