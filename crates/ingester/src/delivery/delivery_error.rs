//! Why a batch can't be delivered.

use thiserror::Error;

use crate::delivery::publisher_client::SendError;
use crate::store::StoreError;

/// A batch can't be delivered.
#[derive(Debug, Error)]
pub enum DeliveryError {
    /// The publisher rejected the token; only the operator can fix that.
    #[error("the publisher rejected the credentials")]
    Unauthorized(#[source] SendError),
    /// A permanent error.
    #[error("the publisher rejected a request")]
    Permanent(#[source] SendError),
    /// Too many consecutive invalid responses; the source is the last one.
    #[error("the publisher sent {0} invalid responses in a row")]
    InvalidResponses(u32, #[source] SendError),
    /// The outcome can't be stored.
    #[error("failed to store the outcome of a batch")]
    Store(#[source] StoreError),
}
