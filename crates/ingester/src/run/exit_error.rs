//! How a process ends that was not told to, and its exit code. Ends nothing itself.

use service::access::CallersError;
use service::process::{EXIT_CONFIG, ExitStatus};
use thiserror::Error;

use crate::api::ApiError;
use crate::store::StoreError;

/// Why the process ends other than by being told to.
#[derive(Debug, Error)]
pub enum ExitError {
    /// Only the operator can mend it.
    #[error("a run that no other run can mend: {0}")]
    Unrecoverable(String),
    /// The one run is not complete; its reason was logged.
    #[error("the run is not complete but {0}")]
    Incomplete(&'static str),
    /// The state can't be used any more.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who may use the API can't be read.
    #[error(transparent)]
    Callers(#[from] CallersError),
    /// The API can't be served.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl ExitStatus for ExitError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Unrecoverable(_) | Self::Callers(_) => EXIT_CONFIG,
            Self::Incomplete(_) | Self::Store(_) | Self::Api(_) => 1,
        }
    }
}
