//! Kafka Connect, standalone, with Camel's Cassandra sink.
//!
//! It uses the JSON converter, a transformation that orders the values for the statement, and a prepared statement.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::PeerError;
use super::java::{self, Java};
use crate::sink::{RunningSink, Sink, SinkConfig, SinkError};

use testkit::servers::ports::PortLease;

const SOURCE: &str = include_str!("../../peers/connect/UserRow.java");
const MAIN: &str = "org.apache.kafka.connect.cli.ConnectStandalone";

/// Camel waits for each row before it sends the next, so more tasks than partitions do not help.
const TASKS: u32 = 6;
/// It drains about 175 rows/s, so a larger backlog would take half an hour.
const MOST_RECORDS: u64 = 5_000;
/// Camel does not retry by default, so that the first timeout ends a task.
const REDELIVERIES: u32 = 10;
const REDELIVERY_DELAY_MS: u32 = 200;
/// The same as for Benthos. The driver's default of 2 s is too short for a Cassandra that shares two cores.
const REQUEST_TIMEOUT: &str = "10 seconds";
/// The worker's log line when it continues without one of its tasks.
const DEAD_TASK: &str = "Task is being killed and will not recover until manually restarted";

/// An installed Kafka Connect.
#[derive(Debug, Clone)]
pub struct Connect {
    java: Java,
}

impl Connect {
    /// Installs Kafka Connect unless it is already installed.
    ///
    /// # Errors
    /// When the download or the compilation fails.
    pub async fn install() -> Result<Self, PeerError> {
        let java = Java::install(java::CONNECT, "UserRow", SOURCE).await?;
        Ok(Self {
            java: java.with_main(MAIN),
        })
    }
}

fn connector(config: &SinkConfig) -> String {
    let statement = format!(
        "INSERT INTO {}.{} (id, first_name, last_name, gender, address, post_code, email, username, phone, picture, \
             dob, registered_date, ingested_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        config.keyspace, config.table
    );
    lines(&[
        ("name", config.group.clone()),
        (
            "connector.class",
            "org.apache.camel.kafkaconnector.CamelSinkConnector".to_owned(),
        ),
        ("tasks.max", TASKS.to_string()),
        ("topics", config.topic.clone()),
        ("transforms", "row".to_owned()),
        ("transforms.row.type", "UserRow".to_owned()),
        ("camel.error.handler.max.redeliveries", REDELIVERIES.to_string()),
        (
            "camel.error.handler.redelivery.delay",
            REDELIVERY_DELAY_MS.to_string(),
        ),
        (
            "camel.sink.url",
            format!(
                "cql://{}/{}?cql=RAW({statement})&consistencyLevel=LOCAL_QUORUM",
                config.cassandra, config.keyspace
            ),
        ),
    ])
}

impl Sink for Connect {
    fn name(&self) -> &'static str {
        "Kafka Connect"
    }

    fn describe(&self) -> String {
        format!(
            "{TASKS} tasks, {REDELIVERIES} redeliveries after {REDELIVERY_DELAY_MS} ms, request timeout {REQUEST_TIMEOUT}, -Xmx1g, \
             at most {MOST_RECORDS} records"
        )
    }

    fn most_records(&self) -> u64 {
        MOST_RECORDS
    }

    fn start(&self, config: &SinkConfig) -> Result<RunningSink, SinkError> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])
            .map_err(|error| SinkError::Absent(format!("no port for Kafka Connect: {error}")))?;
        let (worker_file, sink_file) = (
            config.folder.join("connect-worker.properties"),
            config.folder.join("connect-sink.properties"),
        );
        write(&worker_file, &worker(config, port.port()))?;
        write(&sink_file, &connector(config))?;
        let log = config.folder.join("connect.log");
        let options = [
            "-Xmx1g".to_owned(),
            "-Dlog4j2.level=WARN".to_owned(),
            format!("-Ddatastax-java-driver.basic.request.timeout={REQUEST_TIMEOUT}"),
        ];
        let child = self
            .java
            .program(options)
            .arg(worker_file)
            .arg(sink_file)
            .log_to(log)
            .spawn()?;
        Ok(RunningSink::new(vec![child]).with_fatal_log(DEAD_TASK).keep(port))
    }
}

fn worker(config: &SinkConfig, port: u16) -> String {
    let converter = |name: &str| format!("org.apache.kafka.connect.{name}");
    lines(&[
        ("bootstrap.servers", config.brokers.clone()),
        ("key.converter", converter("storage.StringConverter")),
        ("value.converter", converter("json.JsonConverter")),
        ("value.converter.schemas.enable", "false".to_owned()),
        (
            "offset.storage.file.filename",
            config.folder.join("connect-offsets").display().to_string(),
        ),
        ("offset.flush.interval.ms", "5000".to_owned()),
        ("listeners", format!("http://127.0.0.1:{port}")),
        // A transformation on the class path has no manifest.
        ("plugin.discovery", "only_scan".to_owned()),
    ])
}

fn lines(properties: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| format!("{name}={value}\n");
    properties.iter().map(line).collect()
}

fn write(path: &Path, text: &str) -> Result<(), SinkError> {
    let failed = |source| SinkError::File {
        path: PathBuf::from(path),
        source,
    };
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(failed)?;
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_one_line_each() {
        let text = lines(&[("a", "1".to_owned()), ("b.c", "x=y".to_owned())]);
        assert_eq!(text, "a=1\nb.c=x=y\n");
    }
}
