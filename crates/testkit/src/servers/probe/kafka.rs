//! Readiness probe of a Kafka broker, by its metadata.

use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataBroker;

/// The client reconnects within it, so a broker that comes up is seen at once.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// Probes one broker on its internal listener, which no test secures.
#[derive(Debug, Clone)]
pub(in crate::servers) struct KafkaNodeProbe {
    pub(in crate::servers) address: String,
    pub(in crate::servers) node_id: i32,
}

impl KafkaNodeProbe {
    /// Whether the broker responds and lists itself among the brokers that take requests.
    pub(super) async fn is_ready(&self) -> bool {
        self.brokers().await.contains(&self.node_id)
    }

    /// Returns the ids of all brokers that this one lists; none when it does not respond.
    pub(super) async fn brokers(&self) -> Vec<i32> {
        let address = self.address.clone();
        let fetched = tokio::task::spawn_blocking(move || fetch_brokers(&address)).await;
        fetched.ok().and_then(Result::ok).unwrap_or_default()
    }
}

fn fetch_brokers(address: &str) -> KafkaResult<Vec<i32>> {
    let client = admin_client(address)?;
    let metadata = client.inner().fetch_metadata(None, METADATA_TIMEOUT)?;
    Ok(metadata.brokers().iter().map(MetadataBroker::id).collect())
}

/// A client that logs nothing about a broker that is still down, and reconnects fast.
pub(in crate::servers) fn admin_client(address: &str) -> KafkaResult<AdminClient<DefaultClientContext>> {
    ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "100")
        .set_log_level(RDKafkaLogLevel::Emerg)
        .create()
}
