//! The process plumbing that every Affluent binary needs, in the order in which a process lives:
//! it reads its configuration, starts to log, opens its admin port, reports health and metrics,
//! backs off from what fails, knows who may call, and stops when it is told to.
//!
//! A library, not a framework: it knows no domain, no Kafka and no Cassandra, and calls no code of
//! a service but the future handed to [`Process::run`].

pub mod access;
pub mod admin;
pub mod backoff;
pub mod config;
pub mod failpoint;
pub mod health;
pub mod healthcheck;
pub mod metrics;
pub mod pem;
pub mod process;
pub mod reload;
pub mod secret;
pub mod telemetry;

pub use crate::access::{AuthSettings, Callers};
pub use crate::backoff::Backoff;
pub use crate::config::{CommandLine, List};
pub use crate::health::{Dependency, Health};
pub use crate::healthcheck::HealthCheck;
pub use crate::metrics::Metrics;
pub use crate::process::{Context, ExitStatus, Process, ProcessSettings};
pub use crate::secret::Secret;
