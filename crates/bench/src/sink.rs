//! A sink writes a topic to a table: the streamer or one of its peers.

pub mod compare;
pub mod drain;
pub mod stream;

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use testkit::process::{Child, ProcessError};
use testkit::service::{Service, ServiceError, ServiceOptions};
use testkit::workspace::WorkspaceError;

/// Where a sink reads and writes.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// `host:port` of the brokers, separated by commas.
    pub brokers: String,
    /// The topic, which exists.
    pub topic: String,
    /// The consumer group, which is new.
    pub group: String,
    /// A node of Cassandra.
    pub cassandra: SocketAddr,
    /// The keyspace, which exists.
    pub keyspace: String,
    /// The keyspace's replication, as a CQL map.
    pub replication: String,
    /// The table, which exists and has the streamer's columns.
    pub table: String,
    /// Folder for logs, checkpoints and configuration.
    pub folder: PathBuf,
}

/// A program that writes a topic's records to a table, from the earliest offset.
pub trait Sink {
    /// The display name.
    fn name(&self) -> &str;

    /// The settings, for the report.
    fn describe(&self) -> String;

    /// The maximum backlog, lower for a slow sink.
    fn most_records(&self) -> u64 {
        u64::MAX
    }

    /// Starts the sink's processes without waiting for readiness.
    ///
    /// # Errors
    /// When a dependency is missing or a process fails to start.
    fn start(&self, config: &SinkConfig) -> Result<RunningSink, SinkError>;
}

/// A sink failed to start, run or stop.
#[derive(Debug, Error)]
pub enum SinkError {
    /// A process failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The streamer failed to start.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A binary or a folder is missing.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A file of the sink is inaccessible.
    #[error("failed to access {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A dependency is missing, such as a program or a package.
    #[error("{0}")]
    Absent(String),
    /// A process ended unexpectedly.
    #[error("{name} ended unexpectedly:\n{log}")]
    Ended {
        /// The process.
        name: String,
        /// The end of its log.
        log: String,
    },
}

/// Time between `SIGTERM` and `SIGKILL`.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of the log that are searched for the fatal line, more than a sink logs between two checks.
const SEARCHED_LINES: usize = 400;

/// A started sink. CPU and memory include child processes. Dropping it kills the processes.
pub struct RunningSink {
    processes: Vec<Child>,
    /// The log line of the first process when it continues without working.
    fatal: Option<&'static str>,
    resources: Vec<Box<dyn Any + Send + Sync>>,
}

impl RunningSink {
    /// Creates a sink of these processes. Errors show the log of the first.
    pub fn new(processes: Vec<Child>) -> Self {
        Self {
            processes,
            fatal: None,
            resources: Vec::new(),
        }
    }

    /// Treats this log line as the end of the process.
    #[must_use]
    pub fn with_fatal_log(self, sign: &'static str) -> Self {
        Self {
            fatal: Some(sign),
            ..self
        }
    }

    /// Creates a sink of a service and keeps its ports leased.
    pub fn of(service: Service) -> Self {
        Self::of_all(vec![service])
    }

    /// Creates a sink of several services.
    pub fn of_all(mut services: Vec<Service>) -> Self {
        let processes = services.iter_mut().filter_map(Service::take_child).collect();
        Self::new(processes).keep(services)
    }

    /// Keeps a resource, such as a port or a folder, until the processes have ended.
    #[must_use]
    pub fn keep(mut self, resources: impl Any + Send + Sync) -> Self {
        self.resources.push(Box::new(resources));
        self
    }

    /// The process ids, without children.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::pid).collect()
    }

    /// The end of the first process's log.
    pub fn last_lines(&self, count: usize) -> String {
        self.processes
            .first()
            .map_or_else(String::new, |child| child.last_lines(count))
    }

    /// Checks that all processes are working.
    ///
    /// # Errors
    /// [`SinkError::Ended`] with the log of the process.
    pub fn check(&self) -> Result<(), SinkError> {
        let idle = self.fatal.and_then(|sign| {
            let child = self.processes.first()?;
            child.last_lines(SEARCHED_LINES).contains(sign).then_some(child)
        });
        let ended = self.processes.iter().find(|child| !child.is_running());
        match ended.or(idle) {
            None => Ok(()),
            Some(child) => Err(SinkError::Ended {
                name: child.name().to_owned(),
                log: child.last_lines(30),
            }),
        }
    }

    /// Sends `SIGTERM` to each process, and `SIGKILL` after a timeout.
    ///
    /// # Errors
    /// When a process can't be signalled.
    pub async fn stop(self) -> Result<(), SinkError> {
        for child in &self.processes {
            match child.terminate(STOP_TIMEOUT).await {
                Err(ProcessError::StillRunning { .. }) => drop(child.kill().await?),
                Ok(_) | Err(ProcessError::Ended { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The streamer with its default settings. Several replicas share one group.
#[derive(Debug, Clone, Copy)]
pub struct Streamer {
    /// Number of replicas.
    pub replicas: usize,
}

impl Default for Streamer {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

impl Streamer {
    /// Starts the replicas without waiting for readiness.
    ///
    /// # Errors
    /// When a process fails to start.
    pub fn members(self, config: &SinkConfig) -> Result<Vec<Service>, SinkError> {
        let start = |replica: usize| {
            let options = Self::options(config).log_name(format!("streamer-{replica}"));
            Ok(Service::start(&options)?)
        };
        (1..=self.replicas).map(start).collect()
    }

    /// The options of a replica.
    pub fn options(config: &SinkConfig) -> ServiceOptions {
        ServiceOptions::new("streamer", &config.folder)
            .set("kafka.brokers", &config.brokers)
            .set("kafka.topic", &config.topic)
            .set("kafka.group", &config.group)
            .set("cassandra.contact_points", config.cassandra.to_string())
            .set("cassandra.keyspace", &config.keyspace)
            .set("cassandra.replication", &config.replication)
            .set("cassandra.table", &config.table)
    }
}

impl Sink for Streamer {
    fn name(&self) -> &str {
        "affluent"
    }

    fn describe(&self) -> String {
        match self.replicas {
            1 => "as it comes".to_owned(),
            replicas => format!("as it comes, {replicas} replicas"),
        }
    }

    fn start(&self, config: &SinkConfig) -> Result<RunningSink, SinkError> {
        Ok(RunningSink::of_all(self.members(config)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::process::Program;

    #[tokio::test]
    async fn fatal_log_line_counts_as_ended() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = "echo 'Task is being killed'; exec sleep 60";
        let program = Program::new("sh").args(["-c", script]).log_to(log.path());
        let running = RunningSink::new(vec![program.spawn().unwrap()]);
        running.check().unwrap();
        let running = running.with_fatal_log("Task is being killed");
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while running.check().is_ok() {
            assert!(std::time::Instant::now() < until, "{}", running.last_lines(5));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(matches!(running.check(), Err(SinkError::Ended { .. })));
    }
}
