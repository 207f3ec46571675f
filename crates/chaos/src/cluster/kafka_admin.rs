//! Kafka administration as an operator does it, on the internal listener.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Cluster;

const TIMEOUT: Duration = Duration::from_secs(30);

impl Cluster {
    pub(crate) fn kafka_admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        let bootstrap = self.stack.kafka.internal_bootstrap();
        let client = ClientConfig::new().set("bootstrap.servers", bootstrap).create();
        client.context("failed to administer kafka")
    }
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT))
}

/// The first error of the topics' results.
pub(crate) fn check(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<(), KafkaError> {
    let mut results = results.into_iter();
    results.try_for_each(|result| result.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
}
