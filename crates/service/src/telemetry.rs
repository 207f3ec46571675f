//! Logging to standard error, as text or JSON.

pub mod log_limiter;

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Readable text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Initializing logging failed.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("failed to parse the log filter")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Another subscriber is installed already.
    #[error("failed to install the log subscriber")]
    Install(#[source] TryInitError),
}

/// Installs the process's log subscriber. An example of a filter is `info,librdkafka=warn`.
///
/// # Errors
/// The filter does not parse, or a subscriber is installed already.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // A line that can't be written is lost. Otherwise the subscriber would report it to standard error as well, and
        // panic, because that can't be written either.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(TelemetryError::Install)
}

pub(crate) fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder().parse(filter).map_err(TelemetryError::Filter)
}
