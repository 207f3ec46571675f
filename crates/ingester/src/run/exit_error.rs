//! Errors that end the process, and their exit codes.

use service::http::auth::AuthFileError;
use service::output::OutputError;
use service::process::{EXIT_CONFIG, ExitStatus};
use thiserror::Error;

use crate::api::ApiError;
use crate::scheduler::run_queue::InvalidRequest;
use crate::store::StoreError;

/// Why the process ends with an error.
#[derive(Debug, Error)]
pub enum ExitError {
    /// Only the operator can fix the cause.
    #[error("the run failed and a retry cannot succeed: {0}")]
    Unrecoverable(String),
    /// The single run is not complete; its reason was logged.
    #[error("the run ended as {0}, not complete")]
    Incomplete(&'static str),
    /// The requested run can't succeed.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tokens or keys can't be read.
    #[error(transparent)]
    AuthFile(#[from] AuthFileError),
    /// The API failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The summary of the run can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ExitStatus for ExitError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Unrecoverable(_) | Self::AuthFile(_) | Self::Invalid(_) => EXIT_CONFIG,
            Self::Incomplete(_) | Self::Store(_) | Self::Api(_) | Self::Output(_) => 1,
        }
    }
}
