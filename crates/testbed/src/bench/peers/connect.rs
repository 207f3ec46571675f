//! Kafka Connect, standalone, with Camel's sink for Cassandra: the JSON converter, a transformation of ours that puts the values
//! in the statement's order, and the prepared statement.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::PeerError;
use super::java::Java;
use crate::bench::sink::{Running, Sink, SinkError, Site};
use crate::servers::Software;
use crate::servers::ports::PortLease;

const SOURCE: &str = include_str!("../../../peers/connect/UserRow.java");
const MAIN: &str = "org.apache.kafka.connect.cli.ConnectStandalone";

/// Camel waits for each row before it sends the next, so a task for each partition is the most that helps.
const TASKS: u32 = 6;

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
        let java = Java::install(Software::Connect, "UserRow", SOURCE).await?;
        Ok(Self {
            java: java.with_main(MAIN),
            name: "Kafka Connect".to_owned(),
            tasks: TASKS,
        })
    }

    pub(super) fn candidates(&self) -> Vec<Self> {
        let with = |tasks: u32| Self {
            name: format!("{tasks} tasks"),
            tasks,
            ..self.clone()
        };
        vec![with(1), with(2), with(TASKS)]
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

impl Sink for Connect {
    fn name(&self) -> &str {
        &self.name
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
        let options = ["-Xmx1g".to_owned(), "-Dlog4j2.level=WARN".to_owned()];
        let child = self
            .java
            .program(options)
            .arg(worker)
            .arg(connector)
            .log_to(site.folder.join("connect.log"))
            .spawn()?;
        Ok(Running::new(vec![child]).keep(port))
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
