//! Our own binaries as child processes: configured through their environment, watched through their admin port.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;
use thiserror::Error;

use crate::process::{Child, ProcessError, Program};
use crate::servers::ServerError;
use crate::servers::ports::PortLease;
use crate::workspace::{self, WorkspaceError};

/// A service did not do what was asked of it.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// No binary, or no folder.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// No free port.
    #[error(transparent)]
    Port(#[from] ServerError),
    /// It can't be started, signalled or waited for.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It was to be ready and is not.
    #[error("{name} is not ready after {} s: {readiness}\n{log}", waited.as_secs())]
    NotReady {
        /// Its name.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// What `/readyz` said last.
        readiness: String,
        /// The end of its log.
        log: String,
    },
    /// It ended although nobody asked.
    #[error("{name} ended by itself: {status}\n{log}")]
    Ended {
        /// Its name.
        name: String,
        /// Its exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Its admin port does not answer.
    #[error("ask {name}'s admin port")]
    Admin {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
}

/// How a service is started.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    name: &'static str,
    through: Vec<String>,
    arguments: Vec<String>,
    settings: BTreeMap<String, String>,
    environment: BTreeMap<String, OsString>,
    binaries: Option<PathBuf>,
    folder: PathBuf,
    log: String,
}

impl ServiceOptions {
    /// The binary `name`; its log goes to `folder`.
    pub fn new(name: &'static str, folder: impl Into<PathBuf>) -> Self {
        Self {
            name,
            through: Vec::new(),
            arguments: Vec::new(),
            settings: BTreeMap::new(),
            environment: BTreeMap::new(),
            binaries: None,
            folder: folder.into(),
            log: name.to_owned(),
        }
    }

    /// Sets a configuration key such as `kafka.brokers`, through the environment.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a variable of the environment that is no configuration key.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// The binary in this folder, in place of the one of this process's own build.
    #[must_use]
    pub fn from_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.binaries = Some(folder.into());
        self
    }

    /// Adds a command-line argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it through a command that runs the command behind it in its own place, such as `env` or `unshare`.
    #[must_use]
    pub fn through<A: Into<String>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.through = command.into_iter().map(Into::into).collect();
        self
    }

    /// The log's name, where a service runs more than once.
    #[must_use]
    pub fn log_name(mut self, name: impl Into<String>) -> Self {
        self.log = name.into();
        self
    }
}

/// A service of ours, which can be killed and started again with the same configuration and ports.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    program: Program,
    child: Option<Child>,
    admin: PortLease,
    api: PortLease,
    client: reqwest::Client,
}

/// A local service answers within this, or is frozen.
const ANSWER: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

/// Where a service's configuration has the address of its API.
fn api_key(name: &str) -> Option<&'static str> {
    match name {
        "publisher" => Some("http.listen"),
        "ingester" => Some("api.listen"),
        _ => None,
    }
}

impl Service {
    /// Starts it on free ports: `process.admin_listen`, and that of its API where it has one.
    ///
    /// # Errors
    /// When there is no binary, no port, or no process.
    pub fn start(options: &ServiceOptions) -> Result<Self, ServiceError> {
        let admin = PortLease::free(&[std::net::Ipv4Addr::LOCALHOST])?;
        let api = PortLease::free(&[std::net::Ipv4Addr::LOCALHOST])?;
        let variable = |key: &str| {
            format!(
                "{}__{}",
                options.name.to_uppercase(),
                key.replace('.', "__").to_uppercase()
            )
        };
        let binary = match &options.binaries {
            Some(folder) => folder.join(options.name),
            None => workspace::binary(options.name)?,
        };
        let mut program = match options.through.split_first() {
            Some((command, arguments)) => Program::new(command).args(arguments).arg(binary),
            None => Program::new(binary),
        };
        program = program
            .args(&options.arguments)
            .log_to(options.folder.join(format!("{}.log", options.log)))
            .env(
                variable("process.admin_listen"),
                format!("127.0.0.1:{}", admin.port()),
            );
        if let Some(key) = api_key(options.name) {
            program = program.env(variable(key), format!("127.0.0.1:{}", api.port()));
        }
        for (key, value) in &options.settings {
            program = program.env(variable(key), value);
        }
        for (name, value) in &options.environment {
            program = program.env(name, value);
        }
        let client = reqwest::Client::builder()
            .timeout(ANSWER)
            .build()
            .map_err(|source| ServiceError::Admin {
                name: options.name.to_owned(),
                source,
            })?;
        let mut service = Self {
            name: options.name,
            program,
            child: None,
            admin,
            api,
            client,
        };
        service.spawn()?;
        Ok(service)
    }

    /// Starts the process again, after [`kill`](Self::kill) or [`terminate`](Self::terminate).
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&mut self) -> Result<(), ServiceError> {
        self.child = Some(self.program.spawn()?);
        Ok(())
    }

    /// The process, when one was started.
    pub fn child(&self) -> Option<&Child> {
        self.child.as_ref()
    }

    /// Hands the process over to another keeper; the ports stay leased to this one.
    pub fn hand_over(&mut self) -> Option<Child> {
        self.child.take()
    }

    /// Takes note that it has ended, as it was meant to.
    pub fn forget(&mut self) {
        self.child = None;
    }

    /// `SIGKILL`.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        if let Some(child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// `SIGTERM`; returns the exit code, none if a signal ended it.
    ///
    /// # Errors
    /// When it had ended by itself or does not end within `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<Option<i32>, ServiceError> {
        let Some(child) = self.child.take() else {
            return Ok(None);
        };
        Ok(child.terminate(deadline).await?.code())
    }

    /// Waits until it ends by itself; returns the exit code.
    ///
    /// # Errors
    /// When it does not end within `deadline`.
    pub async fn wait(&self, deadline: Duration) -> Result<Option<i32>, ServiceError> {
        let Some(child) = &self.child else { return Ok(None) };
        Ok(child.wait(deadline).await?.code())
    }

    /// The end of its log.
    pub fn last_lines(&self, count: usize) -> String {
        self.program
            .log()
            .map_or_else(String::new, |log| crate::process::last_lines(log, count))
    }

    /// `http://…` of its API.
    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.api.port())
    }

    /// `http://…` of its admin port.
    pub fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin.port())
    }

    /// Asks its admin port.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ask(&self, path: &str) -> Result<(StatusCode, String), ServiceError> {
        let failed = |source| ServiceError::Admin {
            name: self.name.to_owned(),
            source,
        };
        let answer = self
            .client
            .get(format!("{}{path}", self.admin()))
            .send()
            .await
            .map_err(failed)?;
        let status = answer.status();
        Ok((status, answer.text().await.map_err(failed)?))
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it ends, or is not ready within `deadline`; with its log.
    pub async fn ready(&self, deadline: Duration) -> Result<(), ServiceError> {
        self.readiness(StatusCode::OK, deadline).await.map(drop)
    }

    /// Waits until `/readyz` answers `status`; returns the answer.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn readiness(&self, status: StatusCode, deadline: Duration) -> Result<Value, ServiceError> {
        let until = Instant::now() + deadline;
        let mut last = String::new();
        loop {
            match self.ask("/readyz").await {
                Ok((found, body)) if found == status => {
                    return Ok(serde_json::from_str(&body).unwrap_or_default());
                }
                Ok((found, body)) => last = format!("{found} {body}"),
                Err(_) => self.check_running()?,
            }
            if Instant::now() >= until {
                let (name, log) = (self.name.to_owned(), self.last_lines(30));
                return Err(ServiceError::NotReady {
                    name,
                    waited: deadline,
                    readiness: last,
                    log,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The sum of a metric's series whose line contains `labels`; none where there is none.
    ///
    /// # Errors
    /// When the admin port does not answer.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<Option<f64>, ServiceError> {
        let (_, text) = self.ask("/metrics").await?;
        let series = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let found = series.split('{').next() == Some(name) && series.contains(labels);
            found.then(|| value.parse::<f64>().ok()).flatten()
        });
        Ok(series.reduce(|sum, value| sum + value))
    }

    fn check_running(&self) -> Result<(), ServiceError> {
        match self.child.as_ref().map(Child::exit_status) {
            Some(Ok(Some(status))) => Err(ServiceError::Ended {
                name: self.name.to_owned(),
                status: status.to_string(),
                log: self.last_lines(30),
            }),
            _ => Ok(()),
        }
    }
}
