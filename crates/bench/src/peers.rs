//! Peers of the streamer and the publisher. Each is pinned, installed from its registry into the target folder on
//! request, and configured as its users would. `crates/bench/peers/README.md` lists settings and how they were chosen.
//! Building and testing Affluent needs none of them.

pub mod benthos;
pub mod connect;
pub mod flink;
pub mod java;
pub mod python;
pub mod spark;

use std::collections::BTreeMap;
use std::future::Future;

use anyhow::Result;

use crate::report::reason;
use crate::sinks::Sink;

/// The installed peers of the streamer.
#[derive(Default)]
pub struct InstalledPeers {
    /// Peers that can be started.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Peers that could not be installed, and why.
    pub skipped: BTreeMap<String, String>,
}

impl InstalledPeers {
    /// Installs all peers that their registries serve.
    pub async fn install() -> Self {
        let mut installed = Self::default();
        installed.add("Spark", spark::Spark::install()).await;
        installed.add("Benthos", benthos::Benthos::install()).await;
        installed.add("Flink", flink::Flink::install()).await;
        installed.add("Kafka Connect", connect::Connect::install()).await;
        installed
    }

    async fn add<S: Sink + 'static>(&mut self, name: &str, install: impl Future<Output = Result<S>>) {
        match install.await {
            Ok(sink) => self.sinks.push(Box::new(sink)),
            Err(error) => {
                println!("{name} is not measured: {error:#}");
                self.skipped.insert(name.to_owned(), reason(&error));
            }
        }
    }
}
