//! The demo: the whole pipeline on real servers, from the API or generated records to rows, with a check of every count.
//!
//! It starts everything it needs. Dropping it stops all of that.

mod conservation;
mod figures;
mod progress;
mod traffic;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::{try_join, try_join_all};

use self::conservation::RunVerdict;
pub use self::figures::Figures;
use self::progress::{ProgressBars, Steps};
use self::traffic::{TrafficSummary, finish_run, post_records};
use crate::cassandra_client::CassandraClient;
use crate::comparison::{differences, expected};
use crate::error::TestkitError;
use crate::kafka_client::KafkaClient;
use crate::randomuser::{Options, RandomUserApi};
use crate::record_type::RecordType;
use crate::rows::{Row, RowId, Rows, text};
use crate::servers::{
    CassandraCluster, CassandraOptions, KafkaCluster, KafkaOptions, Software, Stack, are_fetched, jars,
};
use crate::service::{Service, ServiceError, ServiceOptions};
use crate::workspace;

/// Options of the demo.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The record type. Others than users are generated, and need no API.
    pub record: RecordType,
    /// Number of records. `None`: all of the samples, or 1,000.
    pub users: Option<u64>,
    /// The source of the users.
    pub source: UserSource,
    /// The API's version.
    pub version: String,
}

/// The source of the demo's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserSource {
    /// The offline API.
    Offline,
    /// The offline API with the stored responses of this folder.
    Samples(PathBuf),
    /// randomuser.me.
    Live,
}

const KEYSPACE: &str = "spark_streams";
/// For a service to reach a server on a cold machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// From the last acknowledgement to the last row.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
const LIVE_URL: &str = "https://randomuser.me";
/// The API's maximum, and more than any folder of samples holds.
const MAX_PAGE_SIZE: u64 = 5_000;
const SAMPLE_ROWS: usize = 5;
const SAMPLE_COLUMNS: usize = 4;
/// The interval of checks that every process runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// The running demo.
pub struct Demo {
    // Dropped in this order: dependents first.
    streamer: Service,
    publisher: Service,
    table: CassandraClient,
    kafka: KafkaClient,
    /// `None` for the live API, and for generated records.
    api: Option<RandomUserApi>,
    stack: Stack,
    folder: PathBuf,
    options: DemoOptions,
    steps: Steps,
}

/// The result of the demo.
pub struct DemoReport {
    /// The figures.
    pub figures: Figures,
    /// Failed checks; empty on success.
    pub failures: Vec<String>,
    /// Some rows with their first columns.
    pub sample: Vec<(RowId, Vec<String>)>,
}

impl Demo {
    /// Starts the servers, then the services, and waits until they are ready.
    pub async fn start(options: DemoOptions) -> Result<Self, TestkitError> {
        let steps = Steps::start();
        let folder = log_folder(&options.record)?;
        let stack = start_stack(&steps).await?;
        let record = &options.record;
        let api = match &options.source {
            _ if !record.is_users() => None,
            UserSource::Live => None,
            UserSource::Offline => Some(RandomUserApi::start(Options::unlimited()).await?),
            UserSource::Samples(folder) => Some(RandomUserApi::start(Options::samples(folder)).await?),
        };
        steps.print(&format!(
            "starting publisher and streamer (logs: {})",
            folder.display()
        ));
        let brokers = stack.kafka.bootstrap();
        let contact_points = stack.cassandra.contact_points();
        let publisher = ServiceOptions::new("publisher", &folder).set("kafka.brokers", &brokers);
        let publisher = Service::start(&record.configure(publisher))?;
        let streamer = ServiceOptions::new("streamer", &folder)
            .set("kafka.brokers", &brokers)
            .set("cassandra.contact_points", contact_points.join(","));
        let streamer = Service::start(&record.configure(streamer))?;
        publisher.wait_until_ready(READY_TIMEOUT).await?;
        streamer.wait_until_ready(READY_TIMEOUT).await?;
        steps.print("publisher and streamer are ready");
        let table = CassandraClient::connect(&contact_points, KEYSPACE).await?;
        Ok(Self {
            streamer,
            publisher,
            table: table.for_record(record.contract().clone(), record.table()),
            kafka: KafkaClient::new(brokers)?,
            api,
            stack,
            folder,
            options,
            steps,
        })
    }

    /// Sends the records and waits for the last row. Failed checks are in the [`DemoReport`].
    pub async fn run(&self) -> Result<DemoReport, TestkitError> {
        let records = self.records().await?;
        let started = Instant::now();
        let bars = ProgressBars::new(records);
        let (exit, summary) = self.send(records, &bars).await?;
        let drained = bars
            .drain(summary.fetched, summary.accepted, &self.streamer, DRAIN_TIMEOUT)
            .await;
        let seconds = started.elapsed().as_secs_f64();
        bars.finish();
        self.steps.print("comparing the table with the topic");
        let rows = self.table.rows().await?;
        let mut failures = self.failures(exit, &summary, drained, &rows).await?;
        let verdict = match summary.verdict.clone() {
            Some(verdict) => verdict,
            None => {
                RunVerdict::of_ledger(&self.streamer, &summary.run, summary.accepted, DRAIN_TIMEOUT).await?
            }
        };
        failures.extend(verdict.failure());
        let record = self.options.record.contract().resource();
        let figures = Figures::new(
            record,
            &summary,
            &verdict,
            rows.len() as u64,
            &self.streamer,
            seconds,
        )
        .await?;
        self.steps.print("done");
        Ok(DemoReport {
            figures,
            failures,
            sample: self.sample(&rows),
        })
    }

    /// Runs the ingester once, or posts generated records. Returns the exit code and what was sent.
    async fn send(
        &self,
        records: u64,
        bars: &ProgressBars,
    ) -> Result<(Option<i32>, TrafficSummary), TestkitError> {
        let record = &self.options.record;
        let resource = record.contract().resource();
        let ingester = if record.is_users() {
            self.steps
                .print(&format!("running the ingester for {records} users"));
            Some(Service::start(&self.ingester(records))?)
        } else {
            self.steps
                .print(&format!("posting {records} generated {resource}"));
            None
        };
        let traffic = async {
            match &ingester {
                Some(ingester) => finish_run(ingester).await,
                None => {
                    let summary = post_records(record, &self.publisher, records, bars).await?;
                    Ok((Some(0), summary))
                }
            }
        };
        tokio::select! {
            sent = traffic => sent,
            error = bars.follow(ingester.as_ref(), &self.streamer) => Err(error.into()),
            error = self.watch() => Err(error),
        }
    }

    /// Some rows with their first columns after the primary key, as texts.
    fn sample(&self, rows: &Rows) -> Vec<(RowId, Vec<String>)> {
        let contract = self.options.record.contract();
        let key: Vec<_> = contract.primary_key().collect();
        let slots = (0..contract.fields().len()).filter(|slot| !key.contains(slot));
        let fields: Vec<_> = slots
            .map(|slot| &contract.fields()[slot])
            .take(SAMPLE_COLUMNS)
            .collect();
        let texts = |row: &Row| {
            let columns = fields
                .iter()
                .filter_map(|field| Some(text(&field.cql(), row.get(field.name())?)));
            columns.collect()
        };
        let rows = rows.iter().take(SAMPLE_ROWS);
        rows.map(|(id, row)| (id.clone(), texts(row))).collect()
    }

    /// Runs until a process of the demo ends, and returns the reason.
    async fn watch(&self) -> TestkitError {
        loop {
            let services = [&self.publisher, &self.streamer];
            let services = services.into_iter().try_for_each(Service::check_running);
            if let Err(error) = self.check_servers().and(services.map_err(Into::into)) {
                return error;
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    /// Runs until a server of the demo ends, and returns the reason. A service may be killed, to see what happens: `ended` is
    /// called once for it.
    pub async fn watch_servers(&self, mut ended: impl FnMut(&ServiceError)) -> TestkitError {
        let mut services = vec![&self.publisher, &self.streamer];
        loop {
            if let Err(error) = self.check_servers() {
                return error;
            }
            services.retain(|service| service.check_running().inspect_err(&mut ended).is_ok());
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    fn check_servers(&self) -> Result<(), TestkitError> {
        let Stack { kafka, cassandra } = &self.stack;
        for node in kafka.nodes().iter().chain(cassandra.nodes()) {
            node.check_running()?;
        }
        Ok(())
    }

    /// The addresses of all parts, for `--keep`.
    pub fn addresses(&self) -> BTreeMap<&'static str, String> {
        let mut addresses = BTreeMap::from([
            ("kafka", self.stack.kafka.bootstrap()),
            ("cassandra", self.stack.cassandra.contact_points().join(",")),
            ("publisher", self.publisher.api()),
            ("publisher admin", self.publisher.admin()),
            ("streamer admin", self.streamer.admin()),
        ]);
        if self.options.record.is_users() {
            addresses.insert("random-user API", self.api_url());
        }
        addresses
    }

    fn api_url(&self) -> String {
        let base = self
            .api
            .as_ref()
            .map_or_else(|| LIVE_URL.to_owned(), RandomUserApi::url);
        format!("{base}/api/{}/", self.options.version)
    }

    /// The number of records to send.
    async fn records(&self) -> Result<u64, TestkitError> {
        match (self.options.users, &self.options.source) {
            (Some(records), _) => Ok(records),
            (None, UserSource::Samples(_)) if self.options.record.is_users() => {
                let url = format!("{}?results={MAX_PAGE_SIZE}", self.api_url());
                let page: serde_json::Value = reqwest::get(url).await?.json().await?;
                let users = page["results"].as_array();
                Ok(users.map_or(0, |users| users.len() as u64))
            }
            (None, _) => Ok(1_000),
        }
    }

    fn ingester(&self, users: u64) -> ServiceOptions {
        // About 20 pages, so that the bars move.
        let page_size = match self.options.source {
            UserSource::Samples(_) => users,
            _ => (users / 20).clamp(50, MAX_PAGE_SIZE),
        };
        ServiceOptions::new("ingester", &self.folder)
            .arg("once")
            .arg("--users")
            .arg(users.to_string())
            .set("source.url", self.api_url())
            .set("source.version", &self.options.version)
            .set("source.page_size", page_size.max(1).to_string())
            .set("publisher.url", self.publisher.api())
            .set("pipeline.streamer_url", self.streamer.admin())
    }

    async fn failures(
        &self,
        exit: Option<i32>,
        summary: &TrafficSummary,
        drained: bool,
        rows: &Rows,
    ) -> Result<Vec<String>, TestkitError> {
        let mut failures = run_failures(exit, summary);
        if !drained {
            failures.push(format!(
                "not every accepted record was stored within {} s",
                DRAIN_TIMEOUT.as_secs()
            ));
        }
        let topic = self.options.record.topic();
        let log = self.kafka.read(&topic).await?;
        failures.extend(differences(&expected(self.options.record.contract(), &log), rows));
        let ends = self.kafka.end_offsets(&topic).await?;
        let checkpoints = self.table.checkpoints("streamer", &topic).await?;
        let lags = ends.iter().any(|(partition, end)| {
            checkpoints
                .get(partition)
                .is_none_or(|checkpoint| checkpoint.next_offset != *end)
        });
        if lags {
            failures.push("the checkpoints are not the end offsets".to_owned());
        }
        Ok(failures)
    }
}

/// The failed checks of the ingester's run.
fn run_failures(exit: Option<i32>, summary: &TrafficSummary) -> Vec<String> {
    let mut failures = Vec::new();
    if exit != Some(0) {
        failures.push(format!("the ingester exited with {exit:?}: {}", summary.outcome));
    }
    if summary.invalid > 0 {
        failures.push(format!(
            "{} of {} users are invalid",
            summary.invalid, summary.fetched
        ));
    }
    failures
}

/// Starts both servers at the same time, after their jars are fetched.
async fn start_stack(steps: &Steps) -> Result<Stack, TestkitError> {
    let fetches = [("Kafka", Software::KAFKA), ("Cassandra", Software::CASSANDRA)];
    let fetches = fetches
        .into_iter()
        .filter(|(_, software)| !are_fetched(*software));
    try_join_all(fetches.map(async |(name, software)| {
        steps.print(&format!("fetching {name} from Maven Central, once"));
        jars(software).await.map(drop)
    }))
    .await
    .map_err(crate::servers::ServerError::from)?;
    let kafka = async {
        steps.print("starting Kafka");
        let kafka = KafkaCluster::start(&KafkaOptions::default()).await?;
        steps.print("Kafka is ready");
        Ok::<_, TestkitError>(kafka)
    };
    let cassandra = async {
        steps.print("starting Cassandra");
        let cassandra = CassandraCluster::start(&CassandraOptions::default()).await?;
        steps.print("Cassandra is ready");
        Ok(cassandra)
    };
    let (kafka, cassandra) = try_join(kafka, cassandra).await?;
    Ok(Stack { kafka, cassandra })
}

/// Creates the folder of the services' logs and removes those of the last run.
fn log_folder(record: &RecordType) -> Result<PathBuf, TestkitError> {
    let mut path = workspace::target_dir()?.join("demo");
    if !record.is_users() {
        path.push(record.contract().resource());
    }
    std::fs::create_dir_all(&path).map_err(TestkitError::file(&path))?;
    for name in ["ingester.log", "publisher.log", "streamer.log"] {
        // Absent at the first run.
        let _ = std::fs::remove_file(path.join(name));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_users_fail_the_demo() {
        let summary = |invalid| TrafficSummary {
            run: "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071".to_owned(),
            outcome: "complete".to_owned(),
            fetched: 1_107,
            invalid,
            accepted: 1_107 - invalid,
            duplicate: 0,
            verdict: None,
        };
        assert!(run_failures(Some(0), &summary(0)).is_empty());
        assert_eq!(
            run_failures(Some(0), &summary(1_106)),
            ["1106 of 1107 users are invalid"]
        );
        assert_eq!(run_failures(Some(1), &summary(2)).len(), 2);
    }
}
