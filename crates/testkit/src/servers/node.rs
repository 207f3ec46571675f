//! One node of a cluster: a process that is started, stopped, killed, frozen, and started again on the same
//! data and ports.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ServerError;
use super::cql::CqlProbe;
use super::metadata::KafkaProbe;
use super::pool::Lease;
use crate::process::{Adopted, Child, Lifetime, ProcessError, Program, Signal, last_lines};

/// How often a starting node is asked whether it is ready.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// How long a node may take to stop in good order, or to die.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// How long a process may take from its fork to its own command line.
const EXEC_TIMEOUT: Duration = Duration::from_secs(5);

const LOG_LINES: usize = 40;

/// How a node is asked whether it serves.
#[derive(Debug)]
pub(super) enum Probe {
    Kafka(KafkaProbe),
    Cassandra(CqlProbe),
}

impl Probe {
    pub(super) async fn is_ready(&self) -> bool {
        match self {
            Self::Kafka(probe) => probe.is_ready().await,
            Self::Cassandra(probe) => probe.is_ready().await,
        }
    }
}

/// What makes a node; see the fields of [`Node`].
#[derive(Debug)]
pub(super) struct NodeSpec {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) folder: PathBuf,
    pub(super) program: Program,
    pub(super) lifetime: Lifetime,
    pub(super) probe: Probe,
    pub(super) start_deadline: Duration,
    /// The lease of the node's cluster and the node's place in it, when the server pool owns the process.
    pub(super) lease: Option<(Lease, usize)>,
}

#[derive(Debug, Clone)]
enum Running {
    Child(Arc<Child>),
    Adopted(Adopted),
}

/// One server process. All methods take `&self`, so that a test can disturb a node while others use it.
#[derive(Debug)]
pub struct Node {
    spec: NodeSpec,
    running: Mutex<Option<Running>>,
}

impl Node {
    /// A node that is not started yet; a detached one that an earlier process left running is taken over.
    pub(super) fn new(mut spec: NodeSpec) -> Self {
        let log = spec.folder.join("server.log");
        spec.program = spec.program.log_to(log).lifetime(spec.lifetime);
        let adopted = if spec.lease.is_some() || spec.lifetime == Lifetime::Detached {
            adopted(&spec.folder)
        } else {
            None
        };
        Self {
            spec,
            running: Mutex::new(adopted.map(Running::Adopted)),
        }
    }

    /// The node's name, such as `kafka-1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where clients find it: `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.spec.address
    }

    /// The folder of its data, configuration and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.spec.folder
    }

    /// Its log, which goes on over restarts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.spec.folder.join("server.log")
    }

    /// The process id while it runs (frozen or not).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.running()? {
            Running::Child(child) => child.is_running().then(|| child.pid()),
            Running::Adopted(process) => process.is_running().then(|| process.pid()),
        }
    }

    /// Starts it, on the data and ports it had before, and waits until it serves. A running node is only
    /// waited for.
    ///
    /// # Errors
    /// When it ends or is not ready in time, with the end of its log.
    pub async fn start(&self) -> Result<(), ServerError> {
        self.launch()?;
        self.wait_until_ready().await
    }

    /// `SIGTERM`, and waits until it has ended.
    ///
    /// # Errors
    /// When it does not run or does not end within a minute, as a frozen node doesn't.
    pub async fn stop(&self) -> Result<(), ServerError> {
        self.end_by(Signal::SIGTERM).await
    }

    /// `SIGKILL`, and waits until it has ended.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&self) -> Result<(), ServerError> {
        self.end_by(Signal::SIGKILL).await
    }

    /// `SIGSTOP`, and waits until it has taken effect: its sockets stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn freeze(&self) -> Result<(), ServerError> {
        let outcome = match self.running() {
            Some(Running::Child(child)) => child.freeze().await,
            Some(Running::Adopted(process)) => process.freeze().await,
            None => return Err(self.not_running()),
        };
        outcome.map_err(|source| self.signal_error(source))
    }

    /// `SIGCONT`: a frozen node goes on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> Result<(), ServerError> {
        self.signal(Signal::SIGCONT)
    }

    /// Whether it serves now.
    pub async fn is_ready(&self) -> bool {
        self.spec.probe.is_ready().await
    }

    /// Spawns the process unless it runs, without waiting for readiness.
    pub(super) fn launch(&self) -> Result<(), ServerError> {
        if self.pid().is_some() {
            return Ok(());
        }
        if let Some((lease, index)) = &self.spec.lease {
            lease.start(*index)?;
            // Between fork and exec a process does not have its own command line yet.
            let until = std::time::Instant::now() + EXEC_TIMEOUT;
            let running = loop {
                match adopted(&self.spec.folder) {
                    None if std::time::Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                    found => break found.map(Running::Adopted),
                }
            };
            *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
            return Ok(());
        }
        let child = self
            .spec
            .program
            .spawn()
            .map_err(|source| self.process_error(source))?;
        let path = self.spec.folder.join("pid");
        std::fs::write(&path, child.pid().to_string()).map_err(ServerError::file(&path))?;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running::Child(Arc::new(child)));
        Ok(())
    }

    pub(super) async fn wait_until_ready(&self) -> Result<(), ServerError> {
        let until = Instant::now() + self.spec.start_deadline;
        loop {
            self.check_alive()?;
            if self.is_ready().await {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(self.not_ready());
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    pub(super) fn not_ready(&self) -> ServerError {
        let (server, log) = (self.spec.name.clone(), last_lines(&self.log(), LOG_LINES));
        ServerError::NotReady {
            server,
            waited: self.spec.start_deadline,
            log,
        }
    }

    /// An error when the process has ended.
    fn check_alive(&self) -> Result<(), ServerError> {
        if self.pid().is_some() {
            return Ok(());
        }
        let status = match self.running() {
            Some(Running::Child(child)) => child
                .exit_status()
                .ok()
                .flatten()
                .map(|status| status.to_string()),
            Some(Running::Adopted(_)) | None => None,
        };
        let status = status.unwrap_or_else(|| "status unknown".to_owned());
        let log = last_lines(&self.log(), LOG_LINES);
        Err(ServerError::Ended {
            server: self.spec.name.clone(),
            status,
            log,
        })
    }

    async fn end_by(&self, signal: Signal) -> Result<(), ServerError> {
        self.signal(signal)?;
        let outcome = match self.running() {
            Some(Running::Child(child)) => child.wait(STOP_DEADLINE).await.map(|_| ()),
            Some(Running::Adopted(process)) => process.wait(STOP_DEADLINE).await,
            None => Ok(()),
        };
        outcome.map_err(|source| self.process_error(source))
    }

    fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        let outcome = match self.running() {
            Some(Running::Child(child)) => child.signal(signal),
            Some(Running::Adopted(process)) => process.signal(signal),
            None => return Err(self.not_running()),
        };
        outcome.map_err(|source| self.signal_error(source))
    }

    fn running(&self) -> Option<Running> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn signal_error(&self, source: ProcessError) -> ServerError {
        match source {
            ProcessError::Ended { .. } => self.not_running(),
            other => self.process_error(other),
        }
    }

    fn not_running(&self) -> ServerError {
        ServerError::NotRunning {
            server: self.spec.name.clone(),
        }
    }

    fn process_error(&self, source: ProcessError) -> ServerError {
        ServerError::Process {
            server: self.spec.name.clone(),
            source,
        }
    }
}

/// The process that another process started on this folder, if it runs.
fn adopted(folder: &Path) -> Option<Adopted> {
    Adopted::find(&folder.join("pid"), &folder.to_string_lossy())
}
