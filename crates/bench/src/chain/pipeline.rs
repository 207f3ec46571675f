//! Publisher and streamer on a topic of their own, and the options of an ingester that sends to them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::breakdown;
use crate::cleanup;
use crate::env::BenchEnv;
use crate::error::BenchError;
use crate::sink::{RunningSink, SinkConfig, Streamer};
use testkit::randomuser::RandomUserApi;
use testkit::service::{Service, ServiceOptions};

pub(super) const READY: Duration = Duration::from_secs(60);

/// A running publisher and streamer.
pub(super) struct Pipeline {
    pub(super) config: SinkConfig,
    pub(super) publisher: RunningSink,
    pub(super) streamer: RunningSink,
    url: String,
    metrics: String,
}

impl Pipeline {
    pub(super) async fn start(env: &mut BenchEnv, topic: &str) -> Result<Self, BenchError> {
        env.stack.kafka.create_topic(topic, 6).await?;
        let config = env.prepare_sink(topic).await?;
        let options = ServiceOptions::new("publisher", &config.folder)
            .set("kafka.brokers", &config.brokers)
            .set("kafka.topic", topic);
        let publisher = Service::start(&options)?;
        let streamer = Service::start(&Streamer::options(&config))?;
        publisher.wait_until_ready(READY).await?;
        streamer.wait_until_ready(READY).await?;
        Ok(Self {
            url: publisher.api(),
            metrics: format!("{}/metrics", streamer.admin()),
            config,
            publisher: RunningSink::of(publisher),
            streamer: RunningSink::of(streamer),
        })
    }

    /// Options of an ingester with an empty history, because the sink's folder is new.
    pub(super) fn ingester(&self, api: &RandomUserApi) -> ServiceOptions {
        let state = self.config.folder.join("ingester.db");
        ServiceOptions::new("ingester", &self.config.folder)
            .set("source.url", format!("{}/api/1.4/", api.url()))
            .set("source.rate_limit.users", "1000000000")
            .set("publisher.url", &self.url)
            .set("state.path", state.display().to_string())
    }

    /// The streamer's batches so far by flush trigger.
    pub(super) async fn batches(&self) -> Result<BTreeMap<String, f64>, BenchError> {
        let client = reqwest::Client::builder().no_proxy().timeout(READY).build()?;
        let metrics = client.get(&self.metrics).send().await?.text().await?;
        Ok(breakdown::batches(&metrics))
    }

    pub(super) async fn stop(self, env: &BenchEnv) -> Result<(), BenchError> {
        self.publisher.stop().await?;
        self.streamer.stop().await?;
        env.drop_keyspace(&self.config.keyspace).await?;
        let folder = &self.config.folder;
        cleanup::remove_folder(folder).map_err(BenchError::file(folder))
    }
}
