//! The services as child processes, configured by their environment and observed on their admin port.

mod histogram;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use thiserror::Error;
use tokio::time::{Instant, sleep};

pub use self::histogram::PrometheusHistogram;
use crate::process::{Child, ProcessError, Program, Signal, last_lines};
use crate::servers::ServerError;
use crate::servers::ports::PortLease;
use crate::workspace::{self, WorkspaceError};

/// Why an operation on a service failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ServiceError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Port(#[from] ServerError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{name}'s readiness is still {readiness} after {} s\n{log}", waited.as_secs())]
    NotReady {
        name: String,
        waited: Duration,
        readiness: String,
        log: String,
    },
    /// It ended without a request to do so.
    #[error("{name} ended unexpectedly: {status}\n{log}")]
    Ended {
        name: String,
        status: String,
        log: String,
    },
    #[error("failed to query {name}'s admin port")]
    Admin { name: String, source: reqwest::Error },
}

/// Options of a service process.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    name: &'static str,
    binary: Option<PathBuf>,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    settings: BTreeMap<String, String>,
    environment: BTreeMap<String, OsString>,
    folder: PathBuf,
    log: String,
}

impl ServiceOptions {
    /// The service `name`, with its log in `folder`.
    pub fn new(name: &'static str, folder: impl Into<PathBuf>) -> Self {
        Self {
            name,
            binary: None,
            wrapper: Vec::new(),
            arguments: Vec::new(),
            settings: BTreeMap::new(),
            environment: BTreeMap::new(),
            folder: folder.into(),
            log: name.to_owned(),
        }
    }

    /// Sets a configuration key such as `kafka.brokers`, by the environment.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Sets an environment variable that is not a configuration key.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Uses this binary, such as `env!("CARGO_BIN_EXE_publisher")`. The default is the one of this process's own build.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Adds a command-line argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Runs the binary with a command that execs its arguments, such as `prlimit` or `unshare`.
    #[must_use]
    pub fn wrapped_by<A: Into<String>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.wrapper = command.into_iter().map(Into::into).collect();
        self
    }

    /// Names the log, for services that run more than once.
    #[must_use]
    pub fn log_name(mut self, name: impl Into<String>) -> Self {
        self.log = name.into();
        self
    }

    /// The configuration key of the address of the service's API.
    fn api_key(&self) -> Option<&'static str> {
        match self.name {
            "publisher" => Some("http.listen"),
            "ingester" => Some("api.listen"),
            _ => None,
        }
    }

    fn program(&self, admin: u16, api: u16) -> Result<Program, WorkspaceError> {
        let binary = match &self.binary {
            Some(path) => path.clone(),
            None => workspace::binary(self.name)?,
        };
        let program = match self.wrapper.split_first() {
            Some((command, arguments)) => Program::new(command).args(arguments).arg(binary),
            None => Program::new(binary),
        };
        let mut program = program
            .args(&self.arguments)
            .log_to(self.folder.join(format!("{}.log", self.log)));
        let listen = |port| format!("127.0.0.1:{port}");
        let mut settings = BTreeMap::from([("process.admin_listen", listen(admin))]);
        settings.extend(self.api_key().map(|key| (key, listen(api))));
        settings.extend(self.settings.iter().map(|(key, value)| (&**key, value.clone())));
        for (key, value) in settings {
            let name = format!("{}__{}", self.name, key.replace('.', "__"));
            program = program.env(name.to_uppercase(), value);
        }
        for (name, value) in &self.environment {
            program = program.env(name, value);
        }
        Ok(program)
    }
}

/// A service process, which can be killed and started again with the same configuration and ports.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    program: Program,
    child: Option<Child>,
    admin: PortLease,
    api: PortLease,
    client: Client,
}

/// For a request to a local service, unless the service is frozen.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Service {
    /// Starts it with free ports for `process.admin_listen` and for its API. Does not wait for readiness.
    pub fn start(options: &ServiceOptions) -> Result<Self, ServiceError> {
        let admin = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let api = PortLease::free(&[Ipv4Addr::LOCALHOST])?;
        let client = Client::builder().timeout(REQUEST_TIMEOUT).build();
        let mut service = Self {
            name: options.name,
            program: options.program(admin.port(), api.port())?,
            child: None,
            admin,
            api,
            client: client.map_err(|source| ServiceError::Admin {
                name: options.name.to_owned(),
                source,
            })?,
        };
        service.spawn()?;
        Ok(service)
    }

    /// Replaces binary, arguments, settings and environment from the next start on. Keeps the ports.
    pub fn configure(&mut self, options: &ServiceOptions) -> Result<(), ServiceError> {
        self.program = options.program(self.admin.port(), self.api.port())?;
        Ok(())
    }

    /// Starts the process again, after [`kill`](Self::kill) or [`terminate`](Self::terminate).
    pub fn spawn(&mut self) -> Result<(), ServiceError> {
        self.child = Some(self.program.spawn()?);
        Ok(())
    }

    /// The process, after a start.
    pub fn child(&self) -> Option<&Child> {
        self.child.as_ref()
    }

    /// Moves the process out, which then is not killed on drop. The ports stay leased to this value.
    pub fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }

    /// Records that the process has ended as expected.
    pub fn mark_ended(&mut self) {
        self.child = None;
    }

    /// Sends `SIGKILL` and waits. Fails when the process had ended by itself.
    pub async fn kill(&mut self) -> Result<(), ServiceError> {
        if let Some(child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Sends a signal and does not wait. Fails when the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ServiceError> {
        match &self.child {
            Some(child) => Ok(child.signal(signal)?),
            None => Ok(()),
        }
    }

    /// Sends `SIGTERM` and waits. Returns the exit code, or `None` if a signal ended it.
    ///
    /// # Errors
    /// When it had ended by itself or does not end within `timeout`.
    pub async fn terminate(&mut self, timeout: Duration) -> Result<Option<i32>, ServiceError> {
        let Some(child) = self.child.take() else {
            return Ok(None);
        };
        Ok(child.terminate(timeout).await?.code())
    }

    /// Waits until it ends by itself. Returns the exit code; fails after `timeout`.
    pub async fn wait(&self, timeout: Duration) -> Result<Option<i32>, ServiceError> {
        let Some(child) = &self.child else { return Ok(None) };
        Ok(child.wait(timeout).await?.code())
    }

    /// Its whole log, which holds both standard output and standard error.
    pub fn log(&self) -> String {
        let log = self.program.log().map(std::fs::read_to_string);
        log.and_then(Result::ok).unwrap_or_default()
    }

    /// The last `count` lines of its log.
    pub fn last_lines(&self, count: usize) -> String {
        self.program
            .log()
            .map_or_else(String::new, |log| last_lines(log, count))
    }

    /// `http://…` of its API.
    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.api.port())
    }

    /// `http://…` of its admin port.
    pub fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin.port())
    }

    /// A request to its API.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api()))
    }

    /// Returns status and body of a path of its admin port.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, String), ServiceError> {
        let get = async {
            let response = self.client.get(format!("{}{path}", self.admin())).send().await?;
            Ok((response.status(), response.text().await?))
        };
        get.await.map_err(|source| ServiceError::Admin {
            name: self.name.to_owned(),
            source,
        })
    }

    /// Waits until `/readyz` returns 200.
    pub async fn wait_until_ready(&self, timeout: Duration) -> Result<(), ServiceError> {
        self.wait_for_readiness(StatusCode::OK, timeout).await.map(drop)
    }

    /// Waits until `/readyz` returns `status`, and returns its body. A service that has not named its dependencies yet does not
    /// count: its admin port responds before.
    ///
    /// # Errors
    /// When the process ends, or after `timeout`, with the end of its log.
    pub async fn wait_for_readiness(
        &self,
        status: StatusCode,
        timeout: Duration,
    ) -> Result<Value, ServiceError> {
        let until = Instant::now() + timeout;
        loop {
            let readiness = match self.get("/readyz").await {
                Ok((found, body)) => {
                    let readiness: Value = serde_json::from_str(&body).unwrap_or_default();
                    let dependencies = readiness["dependencies"].as_array();
                    if found == status && dependencies.is_some_and(|it| !it.is_empty()) {
                        return Ok(readiness);
                    }
                    format!("{found} {body}")
                }
                Err(error) => {
                    self.check_running()?;
                    error.to_string()
                }
            };
            if Instant::now() >= until {
                let (name, log) = (self.name.to_owned(), self.last_lines(30));
                return Err(ServiceError::NotReady {
                    name,
                    waited: timeout,
                    readiness,
                    log,
                });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the sum of a metric's series whose line contains `labels`, or `None` without such a series.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<Option<f64>, ServiceError> {
        let (_, text) = self.get("/metrics").await?;
        let series = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let found = series.split('{').next() == Some(name) && series.contains(labels);
            found.then(|| value.parse::<f64>().ok()).flatten()
        });
        Ok(series.reduce(|sum, value| sum + value))
    }

    /// Fails with [`ServiceError::Ended`] once the process has ended.
    pub fn check_running(&self) -> Result<(), ServiceError> {
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
