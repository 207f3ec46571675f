//! Kafka Connect, standalone, with Camel's sink for Cassandra: the JSON converter, a transformation of ours that puts the values
//! in the statement's order, and the prepared statement.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::java::{self, Java};
use super::{PeerError, Tuned};
use crate::sink::{Running, Sink, SinkError, Site};

use testkit::servers::ports::PortLease;

const SOURCE: &str = include_str!("../../peers/connect/UserRow.java");
const MAIN: &str = "org.apache.kafka.connect.cli.ConnectStandalone";

/// Camel waits for each row before it sends the next, so a task for each partition is the most that helps.
const TASKS: u32 = 6;
/// At some 175 rows a second: a backlog of the others' size would take it half an hour.
const MOST_RECORDS: u64 = 5_000;
/// Camel's own default is not to try again, so that the first timeout ends a task.
const REDELIVERIES: u32 = 10;
const REDELIVERY_DELAY_MS: u32 = 200;
/// As Benthos has it. The driver's own, 2 s, is less than a Cassandra may take that shares two cores with all else.
const REQUEST_TIMEOUT: &str = "10 seconds";
/// What the worker logs when it goes on without one of its tasks.
const DEAD_TASK: &str = "Task is being killed and will not recover until manually restarted";

/// An installed Kafka Connect.
#[derive(Debug, Clone)]
pub struct Connect {
    java: Java,
    name: String,
    tasks: u32,
}

impl Connect {
    /// Installs it if need be.
    ///
    /// # Errors
    /// When Maven does not give it.
    pub async fn install() -> Result<Self, PeerError> {
        let java = Java::install(java::CONNECT, "UserRow", SOURCE).await?;
        Ok(Self {
            java: java.with_main(MAIN),
            name: "Kafka Connect".to_owned(),
            tasks: TASKS,
        })
    }

    fn connector(&self, site: &Site) -> String {
        let statement = format!(
            "INSERT INTO {}.{} (id, first_name, last_name, gender, address, post_code, email, username, phone, picture, \
             dob, registered_date, ingested_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            site.keyspace, site.table
        );
        lines(&[
            ("name", site.group.clone()),
            (
                "connector.class",
                "org.apache.camel.kafkaconnector.CamelSinkConnector".to_owned(),
            ),
            ("tasks.max", self.tasks.to_string()),
            ("topics", site.topic.clone()),
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
                    site.cassandra, site.keyspace
                ),
            ),
        ])
    }
}

impl Tuned for Connect {
    type Settings = u32;

    fn settings() -> Vec<u32> {
        vec![1, 2, TASKS]
    }

    fn with(&self, tasks: u32) -> Self {
        Self {
            name: format!("{tasks} tasks"),
            tasks,
            ..self.clone()
        }
    }
}

impl Sink for Connect {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        format!(
            "{} tasks, {REDELIVERIES} redeliveries after {REDELIVERY_DELAY_MS} ms, request timeout {REQUEST_TIMEOUT}, -Xmx1g, \
             at most {MOST_RECORDS} records",
            self.tasks
        )
    }

    fn most_records(&self) -> u64 {
        MOST_RECORDS
    }

    fn start(&self, site: &Site) -> Result<Running, SinkError> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])
            .map_err(|error| SinkError::Absent(format!("no port for Kafka Connect: {error}")))?;
        let (worker, connector) = (
            site.folder.join("connect-worker.properties"),
            site.folder.join("connect-sink.properties"),
        );
        write(&worker, &worker_of(site, port.port()))?;
        write(&connector, &self.connector(site))?;
        let log = site.folder.join("connect.log");
        let options = [
            "-Xmx1g".to_owned(),
            "-Dlog4j2.level=WARN".to_owned(),
            format!("-Ddatastax-java-driver.basic.request.timeout={REQUEST_TIMEOUT}"),
        ];
        let child = self
            .java
            .program(options)
            .arg(worker)
            .arg(connector)
            .log_to(log)
            .spawn()?;
        Ok(Running::new(vec![child]).fails_at(DEAD_TASK).keep(port))
    }
}

fn worker_of(site: &Site, port: u16) -> String {
    let converter = |name: &str| format!("org.apache.kafka.connect.{name}");
    lines(&[
        ("bootstrap.servers", site.brokers.clone()),
        ("key.converter", converter("storage.StringConverter")),
        ("value.converter", converter("json.JsonConverter")),
        ("value.converter.schemas.enable", "false".to_owned()),
        (
            "offset.storage.file.filename",
            site.folder.join("connect-offsets").display().to_string(),
        ),
        ("offset.flush.interval.ms", "5000".to_owned()),
        ("listeners", format!("http://127.0.0.1:{port}")),
        // A transformation on the class path has no manifest that names it.
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
    fn properties_are_a_line_each() {
        let text = lines(&[("a", "1".to_owned()), ("b.c", "x=y".to_owned())]);
        assert_eq!(text, "a=1\nb.c=x=y\n");
    }
}
