//! A publisher and a streamer on a topic of their own, and the settings of an ingester in front of them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::randomuser::RandomUserApi;
use testkit::service::{Service, ServiceOptions};

use crate::env::{BenchEnv, PARTITIONS, cleanup, ingester};
use crate::sinks::running::RunningSink;
use crate::sinks::streamer::Streamer;
use crate::sinks::target::Target;

pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// The services behind the ingester.
pub(super) struct Pipeline {
    pub(super) target: Target,
    pub(super) publisher: RunningSink,
    pub(super) streamer: RunningSink,
    publisher_url: String,
    metrics_url: String,
}

impl Pipeline {
    /// Starts the services and waits until they are ready.
    pub(super) async fn start(env: &mut BenchEnv, topic: &str) -> Result<Self> {
        env.create_topic(topic, PARTITIONS).await?;
        let target = env.create_target(topic).await?;
        let options = ServiceOptions::new("publisher", &target.folder)
            .set("kafka.brokers", &target.brokers)
            .set("kafka.topic", topic);
        let publisher = Service::start(&options)?;
        let streamer = Service::start(&Streamer::options(&target))?;
        publisher.wait_until_ready(TIMEOUT).await?;
        streamer.wait_until_ready(TIMEOUT).await?;
        Ok(Self {
            publisher_url: publisher.api(),
            metrics_url: format!("{}/metrics", streamer.admin()),
            target,
            publisher: RunningSink::from_services(vec![publisher]),
            streamer: RunningSink::from_services(vec![streamer]),
        })
    }

    /// The settings of an ingester with a new state file.
    pub(super) fn ingester(&self, api: &RandomUserApi) -> ServiceOptions {
        let folder = &self.target.folder;
        ingester::options(folder, api, &self.publisher_url, &folder.join("ingester.db"))
    }

    /// The text of the streamer's metrics.
    pub(super) async fn streamer_metrics(&self) -> Result<String> {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        let response = client.get(&self.metrics_url).send().await;
        let failed = || format!("failed to read {}", self.metrics_url);
        response.with_context(failed)?.text().await.with_context(failed)
    }

    /// Stops the services and drops the table.
    pub(super) async fn stop(self, env: &BenchEnv) -> Result<()> {
        self.publisher.stop().await?;
        self.streamer.stop().await?;
        env.drop_keyspace(&self.target.keyspace).await?;
        cleanup::remove_folder(&self.target.folder)
    }
}
