//! What ends the publisher, and with which exit code.

use service::ExitStatus;
use service::access::CallersError;
use service::process::EXIT_CONFIG;
use thiserror::Error;
use tokio::task::JoinError;

use crate::client::ClientError;
use crate::link::Broken;
use crate::producer::NotFlushed;
use crate::server::ListenError;
use crate::tls::TlsError;

/// What ends the publisher.
#[derive(Debug, Error)]
pub enum PublisherError {
    /// librdkafka refuses the configuration.
    #[error("create the producer")]
    Client(#[from] ClientError),
    /// The token file can't be used.
    #[error("auth.tokens_path")]
    Callers(#[from] CallersError),
    /// The certificates can't be used.
    #[error("tls")]
    Tls(#[from] TlsError),
    /// The API's address can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Kafka, or the producer, is broken in a way that waiting does not mend.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Some records had no acknowledgement when the process was stopped. None of them had been answered for.
    #[error(transparent)]
    NotFlushed(#[from] NotFlushed),
    /// The task that empties the producer came to no end.
    #[error("flush the producer")]
    Flush(#[source] JoinError),
}

impl ExitStatus for PublisherError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(_) | Self::Callers(_) | Self::Tls(_) | Self::Broken(Broken::Credentials(_)) => {
                EXIT_CONFIG
            }
            _ => 1,
        }
    }
}
