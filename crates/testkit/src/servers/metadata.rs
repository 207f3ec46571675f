//! Asking a Kafka broker whether it serves, through its own metadata.

use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaResult;

/// Within it the client reconnects by itself, so a broker that comes up is noticed at once.
const METADATA_DEADLINE: Duration = Duration::from_secs(1);

/// Asks one broker through its internal listener, which stays plain whatever a test does to the clients'.
#[derive(Debug, Clone)]
pub(super) struct KafkaProbe {
    pub(super) address: String,
    pub(super) node_id: i32,
}

impl KafkaProbe {
    /// Whether the broker answers and counts itself among the brokers that take requests.
    pub(super) async fn is_ready(&self) -> bool {
        self.brokers().await.contains(&self.node_id)
    }

    /// The ids of all brokers that this one knows to take requests; none when it does not answer.
    pub(super) async fn brokers(&self) -> Vec<i32> {
        let address = self.address.clone();
        let asked = tokio::task::spawn_blocking(move || fetch_brokers(&address)).await;
        asked.ok().and_then(Result::ok).unwrap_or_default()
    }
}

fn fetch_brokers(address: &str) -> KafkaResult<Vec<i32>> {
    let client = admin(address)?;
    let metadata = client.inner().fetch_metadata(None, METADATA_DEADLINE)?;
    Ok(metadata
        .brokers()
        .iter()
        .map(rdkafka::metadata::MetadataBroker::id)
        .collect())
}

/// A client that is silent about a broker which is not up yet, and comes back to it fast.
pub(super) fn admin(address: &str) -> KafkaResult<AdminClient<DefaultClientContext>> {
    ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "100")
        .set_log_level(RDKafkaLogLevel::Emerg)
        .create()
}
