//! Kafka Connect, standalone, with Camel's Cassandra sink: the JSON converter, a transformation of ours that orders the
//! values, and a prepared statement.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use testkit::servers::ports::PortLease;

use super::java::{CONNECT, Java};
use crate::sinks::Sink;
use crate::sinks::running::RunningSink;
use crate::sinks::target::Target;

const SOURCE: &str = include_str!("../../peers/connect/UserRow.java");
/// Binds the values in the order of [`SOURCE`].
const INSERT: &str = include_str!("../../peers/connect/insert.cql");
const MAIN: &str = "org.apache.kafka.connect.cli.ConnectStandalone";

/// Camel waits for each row before it sends the next, so more tasks than partitions do not help.
const TASKS: u32 = 6;
/// A backlog of the other sinks' size would take it half an hour.
const MAX_RECORDS: u64 = 5_000;
/// Camel's default is no retry: the first timeout ends a task.
const REDELIVERIES: u32 = 10;
const REDELIVERY_DELAY_MS: u32 = 200;
/// As for Benthos. The driver's default, 2 s, is less than a Cassandra on two shared cores may take.
const REQUEST_TIMEOUT: &str = "10 seconds";
/// The worker's log line when it continues without one of its tasks.
const DEAD_TASK: &str = "Task is being killed and will not recover until manually restarted";

/// The installed program.
#[derive(Debug, Clone)]
pub struct Connect(Java);

impl Connect {
    /// Fetches and compiles it unless that is done.
    pub async fn install() -> Result<Self> {
        let java = Java::install(CONNECT, "UserRow", SOURCE).await?;
        Ok(Self(java.with_main(MAIN)))
    }
}

impl Sink for Connect {
    fn name(&self) -> &str {
        "Kafka Connect"
    }

    fn describe(&self) -> String {
        format!(
            "{TASKS} tasks, {REDELIVERIES} redeliveries after {REDELIVERY_DELAY_MS} ms, request timeout {REQUEST_TIMEOUT}, \
             -Xmx1g, at most {MAX_RECORDS} records"
        )
    }

    fn max_records(&self) -> u64 {
        MAX_RECORDS
    }

    fn start(&self, target: &Target) -> Result<RunningSink> {
        let port = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let worker = target.folder.join("connect-worker.properties");
        let connector = target.folder.join("connect-sink.properties");
        write(&worker, &worker_properties(target, port.port()))?;
        write(&connector, &connector_properties(target))?;
        let options = [
            "-Xmx1g".to_owned(),
            "-Dlog4j2.level=WARN".to_owned(),
            format!("-Ddatastax-java-driver.basic.request.timeout={REQUEST_TIMEOUT}"),
        ];
        let child = self
            .0
            .program(options)
            .arg(worker)
            .arg(connector)
            .log_to(target.folder.join("connect.log"))
            .spawn()?;
        let sink = RunningSink::new(vec![child]);
        Ok(sink.with_fatal_line(DEAD_TASK).with_resource(port))
    }
}

fn connector_properties(target: &Target) -> String {
    let statement = INSERT.trim_end().replace("{table}", &target.full_table());
    let url = format!(
        "cql://{}/{}?cql=RAW({statement})&consistencyLevel=LOCAL_QUORUM",
        target.cassandra, target.keyspace
    );
    lines(&[
        ("name", target.group.clone()),
        (
            "connector.class",
            "org.apache.camel.kafkaconnector.CamelSinkConnector".to_owned(),
        ),
        ("tasks.max", TASKS.to_string()),
        ("topics", target.topic.clone()),
        ("transforms", "row".to_owned()),
        ("transforms.row.type", "UserRow".to_owned()),
        ("camel.error.handler.max.redeliveries", REDELIVERIES.to_string()),
        (
            "camel.error.handler.redelivery.delay",
            REDELIVERY_DELAY_MS.to_string(),
        ),
        ("camel.sink.url", url),
    ])
}

fn worker_properties(target: &Target, port: u16) -> String {
    let converter = |name: &str| format!("org.apache.kafka.connect.{name}");
    lines(&[
        ("bootstrap.servers", target.brokers.clone()),
        ("key.converter", converter("storage.StringConverter")),
        ("value.converter", converter("json.JsonConverter")),
        ("value.converter.schemas.enable", "false".to_owned()),
        (
            "offset.storage.file.filename",
            target.folder.join("connect-offsets").display().to_string(),
        ),
        ("offset.flush.interval.ms", "5000".to_owned()),
        ("listeners", format!("http://127.0.0.1:{port}")),
        // The transformation on the class path has no plugin manifest.
        ("plugin.discovery", "only_scan".to_owned()),
    ])
}

fn lines(properties: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| format!("{name}={value}\n");
    properties.iter().map(line).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_written_one_per_line() {
        let text = lines(&[("a", "1".to_owned()), ("b.c", "x=y".to_owned())]);
        assert_eq!(text, "a=1\nb.c=x=y\n");
    }
}
