//! What stands between the topic and the table: our streamer, or a peer that does the same work.

use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::process::{Child, ProcessError};
use crate::service::{Service, ServiceError, ServiceOptions};
use crate::workspace::WorkspaceError;

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
    /// The table, which exists and has the streamer's columns.
    pub table: String,
    /// For logs, checkpoints and configuration of this run.
    pub folder: PathBuf,
}

/// Something that writes the topic's records to the table: started fresh, from the earliest offset, and stopped.
pub trait Sink {
    /// For tables and pictures.
    fn name(&self) -> &str;

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

/// A started sink: its processes, whose CPU seconds and memory are counted with their children's. Dropped, they are
/// killed.
pub struct Running {
    processes: Vec<Child>,
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl Running {
    /// Of these processes; the first is the one whose log is shown when something goes wrong.
    pub fn new(processes: Vec<Child>) -> Self {
        Self {
            processes,
            kept: Vec::new(),
        }
    }

    /// Of a service of ours, whose ports are kept.
    pub fn of(mut service: Service) -> Self {
        let processes = service.hand_over().into_iter().collect();
        Self::new(processes).keep(service)
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

    /// Whether all still run.
    ///
    /// # Errors
    /// [`SinkError::Ended`] with the log of the one that does not.
    pub fn check(&self) -> Result<(), SinkError> {
        match self.processes.iter().find(|child| !child.is_running()) {
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
    /// How it is set up at a site.
    pub fn options(site: &Site) -> ServiceOptions {
        ServiceOptions::new("streamer", &site.folder)
            .set("kafka.brokers", &site.brokers)
            .set("kafka.topic", &site.topic)
            .set("kafka.group", &site.group)
            .set("cassandra.contact_points", site.cassandra.to_string())
            .set("cassandra.keyspace", &site.keyspace)
            .set("cassandra.table", &site.table)
    }
}

impl Sink for Streamer {
    fn name(&self) -> &str {
        "affluent"
    }

    fn start(&self, site: &Site) -> Result<Running, SinkError> {
        let mut running = Running::new(Vec::new());
        for replica in 1..=self.replicas {
            let options = Self::options(site).log_name(format!("streamer-{replica}"));
            let mut service = Service::start(&options)?;
            running.processes.extend(service.hand_over());
            running = running.keep(service);
        }
        Ok(running)
    }
}
