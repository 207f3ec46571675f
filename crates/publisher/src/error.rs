//! Errors that end the publisher, and their exit codes.

use service::ExitStatus;
use service::http::auth::AuthFileError;
use service::http::server::ListenError;
use service::process::EXIT_CONFIG;
use thiserror::Error;
use tokio::task::JoinError;

use crate::http::tls::TlsError;
use crate::kafka::client::ClientError;
use crate::kafka::producer::FlushError;
use crate::kafka::status::FatalKafkaError;

/// An error that ends the publisher.
#[derive(Debug, Error)]
pub enum PublisherError {
    /// librdkafka rejects the configuration.
    #[error("failed to create the Kafka producer")]
    Client(#[from] ClientError),
    /// The token file or the keys of the issuer are not usable.
    #[error("failed to load the files of `auth`")]
    Auth(#[from] AuthFileError),
    /// The certificates are not usable.
    #[error("failed to load the certificates of `tls`")]
    Tls(#[from] TlsError),
    /// The API's address can't be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system does not tell the bound address.
    #[error("failed to read the address of the API")]
    Address(#[source] std::io::Error),
    /// Kafka or the producer failed permanently.
    #[error(transparent)]
    Kafka(#[from] FatalKafkaError),
    /// Records had no acknowledgement at shutdown. None of them was reported as accepted.
    #[error(transparent)]
    NotFlushed(#[from] FlushError),
    /// The task that flushes the producer panicked.
    #[error("failed to flush the producer")]
    Flush(#[source] JoinError),
}

impl ExitStatus for PublisherError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(_) | Self::Auth(_) | Self::Tls(_) | Self::Kafka(FatalKafkaError::Access(_)) => {
                EXIT_CONFIG
            }
            _ => 1,
        }
    }
}
