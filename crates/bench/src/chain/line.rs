//! Publisher and streamer on a topic of their own, ready, and how an ingester before them is set up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::split;
use crate::error::BenchError;
use crate::field::Field;
use crate::leftovers;
use crate::sink::{Running, Site, Streamer};
use testkit::randomuser::RandomUserApi;
use testkit::service::{Service, ServiceOptions};

pub(super) const READY: Duration = Duration::from_secs(60);

/// What stands behind the ingester.
pub(super) struct Line {
    pub(super) site: Site,
    pub(super) publisher: Running,
    pub(super) streamer: Running,
    url: String,
    metrics: String,
}

impl Line {
    pub(super) async fn start(field: &mut Field, topic: &str) -> Result<Self, BenchError> {
        field.stack.kafka.create_topic(topic, 6).await?;
        let site = field.site(topic).await?;
        let options = ServiceOptions::new("publisher", &site.folder)
            .set("kafka.brokers", &site.brokers)
            .set("kafka.topic", topic);
        let publisher = Service::start(&options)?;
        let streamer = Service::start(&Streamer::options(&site))?;
        publisher.wait_until_ready(READY).await?;
        streamer.wait_until_ready(READY).await?;
        Ok(Self {
            url: publisher.api(),
            metrics: format!("{}/metrics", streamer.admin()),
            site,
            publisher: Running::of(publisher),
            streamer: Running::of(streamer),
        })
    }

    /// An ingester whose history nobody has written to: the site's folder is new.
    pub(super) fn ingester(&self, api: &RandomUserApi) -> ServiceOptions {
        let state = self.site.folder.join("ingester.db");
        ServiceOptions::new("ingester", &self.site.folder)
            .set("source.url", format!("{}/api/1.4/", api.url()))
            .set("source.rate_limit.users", "1000000000")
            .set("publisher.url", &self.url)
            .set("state.path", state.display().to_string())
    }

    /// The streamer's batches so far, by what made it flush them.
    pub(super) async fn batches(&self) -> Result<BTreeMap<String, f64>, BenchError> {
        let client = reqwest::Client::builder().no_proxy().timeout(READY).build()?;
        let told = client.get(&self.metrics).send().await?.text().await?;
        Ok(split::batches(&told))
    }

    pub(super) async fn stop(self, field: &Field) -> Result<(), BenchError> {
        self.publisher.stop().await?;
        self.streamer.stop().await?;
        field.drop_keyspace(&self.site.keyspace).await?;
        let folder = &self.site.folder;
        leftovers::remove_folder(folder).map_err(BenchError::file(folder))
    }
}
