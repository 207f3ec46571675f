//! The lifecycle of a process: logs, admin server, signals, the service's work, and a shutdown within a grace time.

pub mod exit;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use self::exit::{EXIT_CONFIG, ExitStatus, chain};
use crate::config::Violations;
use crate::health::Health;
use crate::http::admin::{self, AdminServer};
use crate::metrics::Metrics;
pub use crate::output::exit_with_error;
use crate::status::Status;
use crate::telemetry::{self, LogFormat};
use crate::trace::{TelemetrySettings, Tracer};

/// The `process` section of every service's settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSettings {
    /// The address of `/healthz`, `/readyz`, `/metrics` and `/status`; port 0 selects a free port, which is logged.
    pub admin_listen: SocketAddr,
    /// How long a shutdown may take before the process exits with work left undone.
    #[serde(with = "crate::duration")]
    pub shutdown_grace: Duration,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Which log lines are written, in the syntax of `tracing_subscriber`'s `EnvFilter`.
    pub log_filter: String,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            admin_listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            shutdown_grace: Duration::from_secs(25),
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
        }
    }
}

impl ProcessSettings {
    /// The defaults with the admin server on `port` of all addresses.
    pub fn on_port(port: u16) -> Self {
        Self {
            admin_listen: SocketAddr::from(([0, 0, 0, 0], port)),
            ..Self::default()
        }
    }

    /// Adds a violation if the log filter does not parse.
    pub fn validate(&self, violations: &mut Violations) {
        violations.check("process.log_filter", telemetry::parse_filter(&self.log_filter));
    }
}

/// What a process provides to its service.
#[derive(Clone)]
pub struct Context {
    /// Cancelled at SIGTERM, SIGINT or SIGHUP: accept no new work, finish what is in flight, return.
    pub shutdown: CancellationToken,
    /// Where dependencies and liveness checks are registered.
    pub health: Health,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// Where sections of the status document are added.
    pub status: Status,
    /// Where routes of the admin port are added.
    pub admin: admin::Routes,
    /// Where spans are started.
    pub tracer: Tracer,
}

impl Context {
    /// The context of `service`, whose name is the prefix of its metrics. Tracing is off.
    pub fn new(service: &'static str) -> Self {
        Self {
            shutdown: CancellationToken::new(),
            health: Health::default(),
            metrics: Metrics::new(service),
            status: Status::new(service),
            admin: admin::Routes::default(),
            tracer: Tracer::default(),
        }
    }
}

/// How long the end of a process waits for the export of its last spans.
const SPAN_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A started process: it logs, serves its admin port and handles signals.
pub struct Process {
    context: Context,
    grace: Duration,
    admin: AdminServer,
    signals: Signals,
}

/// The signals that request a shutdown.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// None if it is ignored, as `nohup` does.
    hangup: Option<Signal>,
}

impl Signals {
    fn handle() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: (!is_hangup_ignored())
                .then(|| signal(SignalKind::hangup()))
                .transpose()?,
        })
    }

    async fn recv(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Whether this process was started with SIGHUP ignored.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

impl Process {
    /// Initializes logging and tracing, binds the admin port and handles SIGTERM, SIGINT and SIGHUP. `name` is the prefix of
    /// the metrics.
    ///
    /// # Errors
    /// The exit code, after printing why: the log filter does not parse, TLS can't be set up, the port is in use, or
    /// handling signals fails.
    pub fn start<'a>(
        name: &'static str,
        settings: &'a ProcessSettings,
        telemetry: &'a TelemetrySettings,
    ) -> BoxFuture<'a, Result<Self, std::process::ExitCode>> {
        Box::pin(Self::initialize(name, settings, telemetry))
    }

    async fn initialize(
        name: &'static str,
        settings: &ProcessSettings,
        telemetry: &TelemetrySettings,
    ) -> Result<Self, std::process::ExitCode> {
        if let Err(error) = telemetry::init(settings.log_format, &settings.log_filter) {
            return Err(exit_with_error(name, &error, EXIT_CONFIG));
        }
        let mut context = Context::new(name);
        context.tracer = Tracer::start(name, telemetry, &context.metrics)
            .map_err(|error| exit_with_error(name, &error, EXIT_CONFIG))?;
        let content = admin::Content {
            health: context.health.clone(),
            metrics: context.metrics.clone(),
            status: context.status.clone(),
            routes: context.admin.clone(),
        };
        let bound = AdminServer::bind(settings.admin_listen, content);
        let admin = bound.await.map_err(|error| exit_with_error(name, &error, 1))?;
        let address = admin
            .address()
            .map_err(|error| exit_with_error(name, &error, 1))?;
        let signals = Signals::handle().map_err(|error| exit_with_error(name, &error, 1))?;
        tracing::info!(service = name, version = env!("CARGO_PKG_VERSION"), admin = %address, "started");
        Ok(Self {
            context,
            grace: settings.shutdown_grace,
            admin,
            signals,
        })
    }

    /// What this process provides to the service's work.
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    /// Runs `work` to completion and exits with its outcome. A signal cancels [`Context::shutdown`]. Work that has not
    /// completed `shutdown_grace` later is abandoned, with exit code 1. The last spans have two seconds more.
    ///
    /// Exits without waiting for a driver's threads, which may never return.
    pub async fn run<E: ExitStatus>(self, work: impl Future<Output = Result<(), E>> + Send) -> ! {
        let work = async { exit_code(work.await) };
        match self.supervise(Box::pin(work)).await {}
    }

    /// Boxed, so that the services' binaries do not compile the admin server again.
    fn supervise<'a>(self, work: BoxFuture<'a, u8>) -> BoxFuture<'a, Infallible> {
        Box::pin(self.run_until_exit(work))
    }

    async fn run_until_exit(self, mut work: BoxFuture<'_, u8>) -> Infallible {
        let Self {
            context,
            grace,
            admin,
            mut signals,
        } = self;
        let status = context.status.clone();
        let mut admin = pin!(async {
            tokio::select! {
                () = admin.serve() => {}
                never = status.sample() => match never {},
            }
        });
        let outcome = tokio::select! {
            outcome = &mut work => Some(outcome),
            () = signals.recv() => None,
            () = &mut admin => {
                tracing::error!("admin server ended");
                std::process::exit(1)
            }
        };
        let code = match outcome {
            Some(code) => code,
            None => {
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(grace_ms, "stopping");
                context.health.stopping();
                context.shutdown.cancel();
                tokio::select! {
                    ended = tokio::time::timeout(grace, work) => ended.unwrap_or_else(|_| {
                        tracing::error!("shutdown exceeded the grace time; unacknowledged work will be repeated");
                        1
                    }),
                    () = admin => 1,
                }
            }
        };
        context.tracer.flush(SPAN_FLUSH_TIMEOUT).await;
        std::process::exit(i32::from(code))
    }
}

fn exit_code<E: ExitStatus>(outcome: Result<(), E>) -> u8 {
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            0
        }
        Err(error) => {
            // Displayed without escapes, because the error may have a statement to copy.
            tracing::error!(
                error = %chain(&error),
                exit_code = error.exit_code(),
                "stopped by an error"
            );
            error.exit_code()
        }
    }
}
