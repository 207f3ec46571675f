//! The main job, end to end on real servers: users from the API become rows, and the counts are held against each other.
//!
//! It starts everything it needs and, when it is dropped, leaves nothing of it running.

mod figures;
mod progress_bars;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

pub use self::figures::{Figures, Histogram};
use self::progress_bars::Legs;
use crate::cassandra_client::{CassandraClient, UserRow};
use crate::comparison::{differences, expected};
use crate::error::TestkitError;
use crate::kafka_client::KafkaClient;
use crate::randomuser::{Options, RandomUserApi};
use crate::servers::{Stack, StackOptions};
use crate::service::{Service, ServiceOptions};
use crate::workspace;

/// What the demo does.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How many users; none: as many as the samples hold, or 1,000.
    pub users: Option<u64>,
    /// Where they come from.
    pub from: From,
    /// The API's version.
    pub version: String,
}

/// Where the demo's users come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The offline API.
    Offline,
    /// The offline API, serving the whole replies of this folder.
    Samples(PathBuf),
    /// randomuser.me itself.
    Live,
}

const KEYSPACE: &str = "spark_streams";
const TOPIC: &str = "users_created";
/// For a server on a cold machine to be reached by a service.
const READY: Duration = Duration::from_secs(60);
/// For the last row after the last acknowledgement.
const DRAIN: Duration = Duration::from_secs(60);
const LIVE: &str = "https://randomuser.me";
/// More than any folder of samples holds in one reply.
const LARGEST_PAGE: u64 = 5_000;

/// Everything that runs.
pub struct Demo {
    // In this order they end: first those that depend on others.
    streamer: Service,
    publisher: Service,
    table: CassandraClient,
    tap: KafkaClient,
    source: Source,
    stack: Stack,
    folder: PathBuf,
    options: DemoOptions,
}

enum Source {
    Offline(RandomUserApi),
    Live,
}

impl Source {
    fn url(&self, version: &str) -> String {
        let base = match self {
            Self::Offline(api) => api.url(),
            Self::Live => LIVE.to_owned(),
        };
        format!("{base}/api/{version}/")
    }
}

/// What the demo ended with.
pub struct Outcome {
    /// The figures.
    pub figures: Figures,
    /// What does not agree; empty when the demo succeeded.
    pub objections: Vec<String>,
    /// Some rows.
    pub sample: Vec<(Uuid, UserRow)>,
}

impl Demo {
    /// Starts the servers and then the services, and waits until they are ready.
    ///
    /// # Errors
    /// [`TestkitError`], with the log of what failed.
    pub async fn start(options: DemoOptions) -> Result<Self, TestkitError> {
        let folder = log_folder()?;
        eprintln!("starting Kafka and Cassandra (their files: {})", folder.display());
        let stack = Stack::start(&StackOptions::default()).await?;
        let source = match &options.from {
            From::Live => Source::Live,
            From::Offline => Source::Offline(RandomUserApi::start(Options::unlimited()).await?),
            From::Samples(folder) => Source::Offline(RandomUserApi::start(Options::samples(folder)).await?),
        };
        eprintln!("starting publisher and streamer");
        let publisher =
            ServiceOptions::new("publisher", &folder).set("kafka.brokers", stack.kafka.bootstrap());
        let publisher = Service::start(&publisher)?;
        let streamer = ServiceOptions::new("streamer", &folder)
            .set("kafka.brokers", stack.kafka.bootstrap())
            .set(
                "cassandra.contact_points",
                stack.cassandra.contact_points().join(","),
            );
        let streamer = Service::start(&streamer)?;
        publisher.ready(READY).await?;
        streamer.ready(READY).await?;
        let table = CassandraClient::connect(&stack.cassandra.contact_points(), KEYSPACE).await?;
        let tap = KafkaClient::new(stack.kafka.bootstrap())?;
        Ok(Self {
            streamer,
            publisher,
            table,
            tap,
            source,
            stack,
            folder,
            options,
        })
    }

    /// Runs the job once and waits for its last row.
    ///
    /// # Errors
    /// [`TestkitError`]; counts that do not agree are told in the [`Outcome`].
    pub async fn run(&mut self) -> Result<Outcome, TestkitError> {
        let users = self.users().await?;
        let started = Instant::now();
        let ingester = Service::start(&self.ingester(users))?;
        let legs = Legs::new(users);
        let ended = tokio::select! {
            ended = ingester.wait(Duration::from_secs(3_600)) => ended,
            error = legs.follow(&ingester, &self.streamer) => Err(error),
        };
        let exit = ended?;
        let log = ingester.last_lines(40);
        let summary = log.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        let summary: figures::Summary = summary.ok_or(TestkitError::Incomplete(log))?;
        let drained = legs.drain(&summary, &self.streamer, DRAIN).await;
        let seconds = started.elapsed().as_secs_f64();
        legs.finish();
        let rows = self.table.users().await?;
        let objections = self.objections(exit, &summary, drained, &rows).await?;
        let figures = Figures::of(&summary, &rows, &self.streamer, seconds).await?;
        let sample = rows.into_iter().take(5).collect();
        Ok(Outcome {
            figures,
            objections,
            sample,
        })
    }

    /// Where everything can be reached, for people who keep it running.
    pub fn addresses(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("kafka", self.stack.kafka.bootstrap()),
            ("cassandra", self.stack.cassandra.contact_points().join(",")),
            ("publisher", self.publisher.api()),
            ("publisher admin", self.publisher.admin()),
            ("streamer admin", self.streamer.admin()),
            ("random-user API", self.source.url(&self.options.version)),
        ])
    }

    async fn users(&self) -> Result<u64, TestkitError> {
        match (self.options.users, &self.options.from) {
            (Some(users), _) => Ok(users),
            (None, From::Samples(_)) => {
                let url = format!(
                    "{}?results={LARGEST_PAGE}",
                    self.source.url(&self.options.version)
                );
                let reply = reqwest::get(url).await.map_err(TestkitError::Http)?;
                let reply: serde_json::Value = reply.json().await.map_err(TestkitError::Http)?;
                Ok(reply["results"]
                    .as_array()
                    .map_or(0, |results| results.len() as u64))
            }
            (None, _) => Ok(1_000),
        }
    }

    fn ingester(&self, users: u64) -> ServiceOptions {
        // A page for each twentieth, so that there is something to see.
        let page = match self.options.from {
            From::Samples(_) => users,
            _ => (users / 20).clamp(50, LARGEST_PAGE),
        };
        ServiceOptions::new("ingester", &self.folder)
            .arg("once")
            .arg("--users")
            .arg(users.to_string())
            .set("source.url", self.source.url(&self.options.version))
            .set("source.version", &self.options.version)
            .set("source.page_size", page.max(1).to_string())
            .set("publisher.url", self.publisher.api())
    }

    async fn objections(
        &self,
        exit: Option<i32>,
        summary: &figures::Summary,
        drained: bool,
        rows: &BTreeMap<Uuid, UserRow>,
    ) -> Result<Vec<String>, TestkitError> {
        let mut objections = Vec::new();
        if exit != Some(0) {
            objections.push(format!("the ingester ended with {exit:?}: {}", summary.outcome));
        }
        if !drained {
            objections.push(format!(
                "not every accepted record was stored within {} s",
                DRAIN.as_secs()
            ));
        }
        let log = self.tap.read(TOPIC).await?;
        objections.extend(differences(&expected(&log), rows));
        let ends = self.tap.ends(TOPIC).await?;
        let checkpoints = self.table.checkpoints("streamer", TOPIC).await?;
        let behind = ends.iter().any(|(partition, end)| {
            checkpoints
                .get(partition)
                .is_none_or(|checkpoint| checkpoint.next_offset != *end)
        });
        if behind {
            objections.push("the checkpoints are not the end offsets".to_owned());
        }
        Ok(objections)
    }
}

fn log_folder() -> Result<PathBuf, TestkitError> {
    let path: &Path = &workspace::target_dir()?.join("demo");
    std::fs::create_dir_all(path).map_err(TestkitError::file(path))?;
    for name in ["ingester.log", "publisher.log", "streamer.log"] {
        // Of the run before; it need not be there.
        let _ = std::fs::remove_file(path.join(name));
    }
    Ok(path.to_owned())
}
