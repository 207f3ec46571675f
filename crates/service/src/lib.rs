//! The process plumbing of every Affluent service, in the order in which a process uses it: configuration, logs, health and
//! metrics, the admin server, authentication, back-off and an orderly shutdown.
//!
//! This crate knows no Kafka and no Cassandra, and of the records only which contract the settings name. It calls no code
//! of a service except the future that is passed to [`Process::run`].

pub mod config;
pub mod duration;
pub mod output;

pub mod telemetry;
pub mod trace;

pub mod process;

pub mod health;
pub mod metrics;
pub mod status;

pub mod http;

pub mod backoff;
pub mod files;

pub mod failpoint;

pub use crate::backoff::Backoff;
pub use crate::config::{
    CommandLine, CompletionsCommand, ConfigCommand, List, ManCommand, RecordSettings, Secret,
};
pub use crate::health::{Dependency, Health};
pub use crate::http::auth::{AuthSettings, Authenticator};
pub use crate::http::healthcheck::HealthCheck;
pub use crate::metrics::Metrics;
pub use crate::process::{Context, ExitStatus, Process, ProcessSettings};
pub use crate::status::Status;
pub use crate::status::last_minute::{LastMinute, Totals};
pub use crate::telemetry::log_limiter::LogLimiter;
pub use crate::trace::{TelemetrySettings, TraceContext, Tracer};
