//! One node of a cluster: a process that is stopped, killed, frozen and started again on the same data and ports.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ServerError;
use super::folder::write;
use super::pool::Lease;
use super::probe::Probe;
use crate::process::{
    Child, DetachedProcess, Lifetime, ProcessError, Program, Signal, last_lines, wait_for, wait_until_frozen,
};

/// The interval of probes while a node starts.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// From a process's fork to its own command line.
const EXEC_TIMEOUT: Duration = Duration::from_secs(5);

/// For an orderly stop, and for a kill.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

const LOG_LINES: usize = 40;

/// The parts of a [`Node`].
#[derive(Debug)]
pub(super) struct NodeSpec {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) folder: PathBuf,
    pub(super) program: Program,
    pub(super) lifetime: Lifetime,
    pub(super) probe: Probe,
    pub(super) start_timeout: Duration,
}

#[derive(Debug, Clone)]
enum NodeProcess {
    Child(Arc<Child>),
    Detached(DetachedProcess),
}

impl NodeProcess {
    fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.pid(),
            Self::Detached(process) => process.pid(),
        }
    }

    fn is_running(&self) -> bool {
        match self {
            Self::Child(child) => child.is_running(),
            Self::Detached(process) => process.is_running(),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match self {
            Self::Child(child) => child.signal(signal),
            Self::Detached(process) => process.signal(signal),
        }
    }
}

/// One server process. All methods take `&self`, so that a test can disturb a node that others use.
#[derive(Debug)]
pub struct Node {
    spec: NodeSpec,
    process: Mutex<Option<NodeProcess>>,
    /// The lease of the cluster and the node's index, when the server pool owns the process.
    lease: Option<(Lease, usize)>,
}

impl Node {
    /// A node that is not started, or the detached one that an earlier process left running.
    pub(super) fn new(mut spec: NodeSpec) -> Self {
        let log = spec.folder.join("server.log");
        spec.program = spec.program.log_to(log).lifetime(spec.lifetime);
        let detached = match spec.lifetime {
            Lifetime::WithParent => None,
            Lifetime::Detached => detached_process(&spec.folder),
        };
        Self {
            spec,
            process: Mutex::new(detached.map(NodeProcess::Detached)),
            lease: None,
        }
    }

    /// The node's name, such as `kafka-1`.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The address for clients: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.spec.address
    }

    /// The folder of its data, configuration and log.
    pub fn folder(&self) -> &Path {
        &self.spec.folder
    }

    /// Its log, to which restarts append.
    pub fn log(&self) -> PathBuf {
        self.spec.folder.join("server.log")
    }

    /// The process id while it runs (frozen or not).
    pub fn pid(&self) -> Option<u32> {
        let process = self.process().clone()?;
        process.is_running().then(|| process.pid())
    }

    /// Starts it on the data and ports it had before, unless it runs, and waits until it serves.
    ///
    /// # Errors
    /// When it ends or is not ready in time, with the end of its log.
    pub async fn start(&self) -> Result<(), ServerError> {
        self.launch()?;
        self.wait_until_ready().await
    }

    /// Sends `SIGTERM` and waits. Fails after a minute, as for a frozen node.
    pub async fn stop(&self) -> Result<(), ServerError> {
        self.end_by(Signal::SIGTERM).await
    }

    /// Sends `SIGKILL` and waits.
    pub async fn kill(&self) -> Result<(), ServerError> {
        self.end_by(Signal::SIGKILL).await
    }

    /// Sends `SIGSTOP` and waits until it has taken effect: its sockets stay open and it sends nothing.
    pub async fn freeze(&self) -> Result<(), ServerError> {
        let process = self.signal(Signal::SIGSTOP)?;
        wait_until_frozen(process.pid())
            .await
            .map_err(|source| self.failed(source))
    }

    /// Sends `SIGCONT`, so that a frozen node continues.
    pub fn thaw(&self) -> Result<(), ServerError> {
        self.signal(Signal::SIGCONT).map(drop)
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
        if let Some((lease, index)) = &self.lease {
            lease.start(*index)?;
            // Between fork and exec a process does not have its own command line yet.
            let until = std::time::Instant::now() + EXEC_TIMEOUT;
            let process = loop {
                match detached_process(&self.spec.folder) {
                    None if std::time::Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                    found => break found,
                }
            };
            *self.process() = process.map(NodeProcess::Detached);
            return Ok(());
        }
        let child = self.spec.program.spawn().map_err(|source| self.failed(source))?;
        write(&self.spec.folder.join("pid"), &child.pid().to_string())?;
        *self.process() = Some(NodeProcess::Child(Arc::new(child)));
        Ok(())
    }

    /// Waits until it serves.
    pub(super) async fn wait_until_ready(&self) -> Result<(), ServerError> {
        self.wait(None).await
    }

    /// Waits until it knows `nodes` nodes, itself included.
    pub(super) async fn wait_until_it_knows(&self, nodes: usize) -> Result<(), ServerError> {
        self.wait(Some(nodes)).await
    }

    async fn wait(&self, nodes: Option<usize>) -> Result<(), ServerError> {
        let until = Instant::now() + self.spec.start_timeout;
        loop {
            self.check_running()?;
            let done = match nodes {
                Some(nodes) => self.spec.probe.knows(nodes).await,
                None => self.is_ready().await,
            };
            if done {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(ServerError::NotReady {
                    server: self.spec.name.clone(),
                    waited: self.spec.start_timeout,
                    log: last_lines(&self.log(), LOG_LINES),
                });
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    /// Fails with [`ServerError::Ended`] when its process has ended.
    pub fn check_running(&self) -> Result<(), ServerError> {
        if self.pid().is_some() {
            return Ok(());
        }
        let status = match self.process().as_ref() {
            Some(NodeProcess::Child(child)) => child.exit_status().ok().flatten(),
            Some(NodeProcess::Detached(_)) | None => None,
        };
        Err(ServerError::Ended {
            server: self.spec.name.clone(),
            status: status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string()),
            log: last_lines(&self.log(), LOG_LINES),
        })
    }

    async fn end_by(&self, signal: Signal) -> Result<(), ServerError> {
        let process = self.signal(signal)?;
        wait_for(process.pid(), STOP_TIMEOUT, || {
            Ok((!process.is_running()).then_some(()))
        })
        .await
        .map_err(|source| self.failed(source))
    }

    fn signal(&self, signal: Signal) -> Result<NodeProcess, ServerError> {
        let not_running = || ServerError::NotRunning {
            server: self.spec.name.clone(),
        };
        let process = self.process().clone().ok_or_else(not_running)?;
        match process.signal(signal) {
            Ok(()) => Ok(process),
            Err(ProcessError::Ended { .. }) => Err(not_running()),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<NodeProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: ProcessError) -> ServerError {
        ServerError::Process {
            server: self.spec.name.clone(),
            source,
        }
    }
}

/// Uses the processes that the server pool runs on the nodes' folders.
pub(super) fn attach(nodes: &mut [Node], lease: &Lease) {
    for (index, node) in nodes.iter_mut().enumerate() {
        *node.process() = detached_process(&node.spec.folder).map(NodeProcess::Detached);
        node.lease = Some((lease.clone(), index));
    }
}

/// The process that another process started on this folder, if it runs.
fn detached_process(folder: &Path) -> Option<DetachedProcess> {
    DetachedProcess::find(&folder.join("pid"), &folder.to_string_lossy())
}
