//! What stands between the topic and the table: our streamer, or a peer that does the same work.

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
pub struct Site {
    /// `host:port` of a broker, or several of them with commas between.
    pub brokers: String,
    /// The topic, which exists.
    pub topic: String,
    /// The consumer group, which is new.
    pub group: String,
    /// A node of Cassandra.
    pub cassandra: SocketAddr,
    /// The keyspace, which exists.
    pub keyspace: String,
    /// How it is replicated, as CQL's map.
    pub replication: String,
    /// The table, which exists and has the streamer's columns.
    pub table: String,
    /// For logs, checkpoints and configuration of this run.
    pub folder: PathBuf,
}

/// Something that writes the topic's records to the table: started fresh, from the earliest offset, and stopped.
pub trait Sink {
    /// For tables and pictures.
    fn name(&self) -> &str;

    /// How it is set up, in words, for the report.
    fn describe(&self) -> String;

    /// The most records of a backlog that it is given: of the slowest a round would take half an hour.
    fn most_records(&self) -> u64 {
        u64::MAX
    }

    /// Starts it. Returns once its processes are started; they need not be ready.
    ///
    /// # Errors
    /// When what it needs is absent, or a process can't be started.
    fn start(&self, site: &Site) -> Result<Running, SinkError>;
}

/// A sink could not be started or stopped.
#[derive(Debug, Error)]
pub enum SinkError {
    /// A process can't be started, signalled or waited for.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The streamer can't be started.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// No binary, or no folder.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A file of the sink's can't be read or written.
    #[error("use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What it needs is absent, such as a program or a package.
    #[error("{0}")]
    Absent(String),
    /// It ended although nobody asked.
    #[error("{name} ended by itself:\n{log}")]
    Ended {
        /// The process.
        name: String,
        /// The end of its log.
        log: String,
    },
}

/// A JVM that has been asked to end does so within this, or is killed.
const GOODBYE: Duration = Duration::from_secs(20);
/// So many lines of a log are looked through for the sign of a failure: more than come between two looks.
const TOLD: usize = 400;

/// A started sink: its processes, whose CPU seconds and memory are counted with their children's. Dropped, they are
/// killed.
pub struct Running {
    processes: Vec<Child>,
    /// What the first process's log says when it goes on without doing its work.
    fatal: Option<&'static str>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Running {
    /// Of these processes; the first is the one whose log is shown when something goes wrong.
    pub fn new(processes: Vec<Child>) -> Self {
        Self {
            processes,
            fatal: None,
            kept: Vec::new(),
        }
    }

    /// A process that lives on when its work has ended says so in its log: this, which counts as its end.
    #[must_use]
    pub fn fails_at(self, sign: &'static str) -> Self {
        Self {
            fatal: Some(sign),
            ..self
        }
    }

    /// Of a service of ours, whose ports are kept.
    pub fn of(service: Service) -> Self {
        Self::of_all(vec![service])
    }

    /// The same of several.
    pub fn of_all(mut services: Vec<Service>) -> Self {
        let processes = services.iter_mut().filter_map(Service::take_child).collect();
        Self::new(processes).keep(services)
    }

    /// Holds on to something, such as a port or a folder, until the processes have ended.
    #[must_use]
    pub fn keep(mut self, kept: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(kept));
        self
    }

    /// The process ids, without their children's.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Child::pid).collect()
    }

    /// The end of the first process's log.
    pub fn last_lines(&self, count: usize) -> String {
        self.processes
            .first()
            .map_or_else(String::new, |child| child.last_lines(count))
    }

    /// Whether all still run and do their work.
    ///
    /// # Errors
    /// [`SinkError::Ended`] with the log of the one that does not.
    pub fn check(&self) -> Result<(), SinkError> {
        let idle = self.fatal.and_then(|sign| {
            let child = self.processes.first()?;
            child.last_lines(TOLD).contains(sign).then_some(child)
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

    /// `SIGTERM` for each, and `SIGKILL` for those that do not end of it.
    ///
    /// # Errors
    /// When one is left that takes no signal.
    pub async fn stop(self) -> Result<(), SinkError> {
        for child in &self.processes {
            match child.terminate(GOODBYE).await {
                Err(ProcessError::StillRunning { .. }) => drop(child.kill().await?),
                Ok(_) | Err(ProcessError::Ended { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Our streamer, as it comes; several of them share the partitions as one group.
#[derive(Debug, Clone, Copy)]
pub struct Streamer {
    /// How many.
    pub replicas: usize,
}

impl Default for Streamer {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

impl Streamer {
    /// Starts them; they need not be ready.
    ///
    /// # Errors
    /// When a process can't be started.
    pub fn members(self, site: &Site) -> Result<Vec<Service>, SinkError> {
        let start = |replica: usize| {
            let options = Self::options(site).log_name(format!("streamer-{replica}"));
            Ok(Service::start(&options)?)
        };
        (1..=self.replicas).map(start).collect()
    }

    /// How it is set up at a site.
    pub fn options(site: &Site) -> ServiceOptions {
        ServiceOptions::new("streamer", &site.folder)
            .set("kafka.brokers", &site.brokers)
            .set("kafka.topic", &site.topic)
            .set("kafka.group", &site.group)
            .set("cassandra.contact_points", site.cassandra.to_string())
            .set("cassandra.keyspace", &site.keyspace)
            .set("cassandra.replication", &site.replication)
            .set("cassandra.table", &site.table)
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

    fn start(&self, site: &Site) -> Result<Running, SinkError> {
        Ok(Running::of_all(self.members(site)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::process::Program;

    #[tokio::test]
    async fn a_process_that_only_says_that_it_has_failed_has_ended() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = "echo 'Task is being killed'; exec sleep 60";
        let program = Program::new("sh").args(["-c", script]).log_to(log.path());
        let running = Running::new(vec![program.spawn().unwrap()]);
        running.check().unwrap();
        let running = running.fails_at("Task is being killed");
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while running.check().is_ok() {
            assert!(std::time::Instant::now() < until, "{}", running.last_lines(5));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(matches!(running.check(), Err(SinkError::Ended { .. })));
    }
}
