//! The process plumbing of every Affluent service, in the order in which a process uses it: configuration, logs, health and
//! metrics, the admin server, authentication, back-off and an orderly shutdown.
//!
//! This crate knows no Kafka and no Cassandra, and of the records only which contract the settings name. It calls no code
//! of a service except the future that is passed to [`Process::run`].

pub mod exit;
pub mod output;

pub mod command_docs;
pub mod config;
pub mod duration;
pub mod secret;

pub mod log_limiter;
pub mod telemetry;
pub mod trace;

pub mod process;

pub mod health;
pub mod last_minute;
pub mod metrics;
pub mod status;

pub mod http;

pub mod backoff;
pub mod pem;
pub mod reload;

pub mod failpoint;

pub use crate::backoff::Backoff;
pub use crate::command_docs::{CompletionsCommand, ManCommand};
pub use crate::config::{CommandLine, ConfigCommand, List, RecordSettings};
pub use crate::health::{Dependency, Health};
pub use crate::http::auth::{AuthSettings, Authenticator};
pub use crate::http::healthcheck::HealthCheck;
pub use crate::last_minute::{LastMinute, Totals};
pub use crate::log_limiter::LogLimiter;
pub use crate::metrics::Metrics;
pub use crate::process::{Context, ExitStatus, Process, ProcessSettings};
pub use crate::secret::Secret;
pub use crate::status::Status;
pub use crate::trace::{TelemetrySettings, TraceContext, Tracer};
