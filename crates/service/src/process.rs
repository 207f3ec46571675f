//! The life of a process: logs, admin port, signals, the service's own work, and the end within a
//! grace time. It does not know what the work is.

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::AdminServer;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::telemetry::{self, LogFormat};

/// The exit code for a wrong configuration or wrong credentials: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// What every service lets its operator set under `process`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSettings {
    /// The address of `/healthz`, `/readyz` and `/metrics`; port 0 takes a free one, which the log names.
    pub admin_listen: SocketAddr,
    /// How long a stop may take before the process ends with what is left undone.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub shutdown_grace: Duration,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Which log lines are written, in the syntax of `tracing`'s `EnvFilter`.
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
    /// The defaults with the admin server on `port` of every address.
    pub fn on_port(port: u16) -> Self {
        Self {
            admin_listen: SocketAddr::from(([0, 0, 0, 0], port)),
            ..Self::default()
        }
    }
}

/// What a service gets from its process.
#[derive(Clone)]
pub struct Context {
    /// Cancelled when the process was told to stop: take nothing new, finish what is held, return.
    pub shutdown: CancellationToken,
    /// Where dependencies and watches are reported.
    pub health: Health,
    /// Where metrics are created.
    pub metrics: Metrics,
}

/// An error that ends a service and knows the exit code it deserves.
pub trait ExitStatus: std::error::Error {
    /// [`EXIT_CONFIG`] for what only the operator can mend, 1 for everything else.
    fn exit_code(&self) -> u8 {
        1
    }
}

/// A started process: it logs, answers on its admin port and listens for signals.
pub struct Process {
    context: Context,
    grace: Duration,
    admin: AdminServer,
    terminate: Signal,
    interrupt: Signal,
}

impl Process {
    /// Starts to log, binds the admin port and takes over SIGTERM and SIGINT. `name` is the service's, as in its
    /// metrics. What fails is printed, and ends in the exit code to return.
    ///
    /// # Errors
    /// The exit code, when the log filter does not parse, the port is taken or signals can't be had.
    pub async fn start(
        name: &'static str,
        settings: &ProcessSettings,
    ) -> Result<Self, std::process::ExitCode> {
        if let Err(error) = telemetry::init(settings.log_format, &settings.log_filter) {
            return Err(exit_with_error(name, &error, EXIT_CONFIG));
        }
        let context = Context {
            shutdown: CancellationToken::new(),
            health: Health::default(),
            metrics: Metrics::new(name),
        };
        let bound = AdminServer::bind(
            settings.admin_listen,
            context.health.clone(),
            context.metrics.clone(),
        );
        let admin = bound.await.map_err(|error| exit_with_error(name, &error, 1))?;
        let address = admin
            .address()
            .map_err(|error| exit_with_error(name, &error, 1))?;
        let terminate = signal(SignalKind::terminate()).map_err(|error| exit_with_error(name, &error, 1))?;
        let interrupt = signal(SignalKind::interrupt()).map_err(|error| exit_with_error(name, &error, 1))?;
        tracing::info!(service = name, version = env!("CARGO_PKG_VERSION"), admin = %address, "started");
        Ok(Self {
            context,
            grace: settings.shutdown_grace,
            admin,
            terminate,
            interrupt,
        })
    }

    /// What the service's own work needs of this process.
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    /// Runs `work` to its end and ends the process with its outcome. A signal cancels
    /// [`Context::shutdown`]; work that is not over `shutdown_grace` later is abandoned, exit code 1.
    ///
    /// The process is ended right here, without waiting for threads of a driver that may never return.
    pub async fn run<E: ExitStatus>(self, work: impl Future<Output = Result<(), E>>) -> ! {
        let Self {
            context,
            grace,
            admin,
            mut terminate,
            mut interrupt,
        } = self;
        let mut work = pin!(work);
        let mut admin = pin!(admin.serve());
        let outcome = tokio::select! {
            outcome = &mut work => Some(outcome),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = &mut admin => {
                tracing::error!(error = ended.err().map(|error| chain(&error)), "admin server ended");
                std::process::exit(1)
            }
        };
        let code = match outcome {
            Some(outcome) => exit_code(outcome),
            None => {
                tracing::info!(grace_ms = grace.as_millis(), "stopping");
                context.health.stopping();
                context.shutdown.cancel();
                tokio::select! {
                    ended = tokio::time::timeout(grace, work) => exit_code_in_time(ended),
                    _ = admin => 1,
                }
            }
        };
        std::process::exit(i32::from(code))
    }
}

fn exit_code_in_time<E: ExitStatus>(ended: Result<Result<(), E>, tokio::time::error::Elapsed>) -> u8 {
    ended.map_or_else(
        |_| {
            tracing::error!("not finished within the grace time; what was not acknowledged is done again");
            1
        },
        exit_code,
    )
}

fn exit_code<E: ExitStatus>(outcome: Result<(), E>) -> u8 {
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            0
        }
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                exit_code = error.exit_code(),
                "stopped by an error"
            );
            error.exit_code()
        }
    }
}

/// Prints why a process can't start, in one line, and gives the exit code back.
pub fn exit_with_error(name: &str, error: &dyn std::error::Error, code: u8) -> std::process::ExitCode {
    eprintln!("{name}: {}", chain(error));
    std::process::ExitCode::from(code)
}

/// An error and its sources in one line, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
