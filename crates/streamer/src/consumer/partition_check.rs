//! Finds out what is wrong with one partition, with a consumer of its own: librdkafka reports errors of fetching without the
//! partition.

use std::time::{Duration, Instant};

use ::kafka::ClientEvents;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::KafkaSettings;
use crate::consumer::client;
use crate::consumer::rebalance::{StartOffset, assign};

/// How long a response may take. A leader that is away sends none.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// The state of a partition at an offset.
#[derive(Debug)]
pub enum PartitionCheck {
    /// There is a record, or the end of the log.
    Readable,
    /// The log was truncated below the offset, and may have other records there now.
    Truncated,
    /// The record can't be read.
    Unreadable(KafkaError),
}

/// Reads one record of a partition. Blocks for up to ten seconds.
///
/// # Errors
/// When Kafka rejects the client, or does not respond in time.
pub fn check(settings: &KafkaSettings, start: StartOffset) -> Result<PartitionCheck, KafkaError> {
    let events = ClientEvents::new(&client::connection(settings));
    let consumer: BaseConsumer<ClientEvents> =
        client::fetch_config(settings, 1).create_with_context(events)?;
    assign(&consumer, settings.topic(), &[start], &[start])?;
    let until = Instant::now() + TIMEOUT;
    while Instant::now() < until {
        match consumer.poll(POLL_TIMEOUT) {
            None => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(PartitionCheck::Readable),
            Some(Err(error)) if is_truncation(&error) => return Ok(PartitionCheck::Truncated),
            Some(Err(error)) if is_unreadable(&error) => return Ok(PartitionCheck::Unreadable(error)),
            Some(Err(error)) if consumer.context().is_rejected(&error) => return Err(error),
            // librdkafka reconnects by itself.
            Some(Err(_)) => {}
        }
    }
    Err(KafkaError::MessageConsumption(
        RDKafkaErrorCode::OperationTimedOut,
    ))
}

fn is_truncation(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation)
    )
}

/// Whether the error is of the records themselves: fetching them again gives it again.
pub fn is_unreadable(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BadCompression
                | Code::BadMessage
                | Code::NotImplemented
                | Code::MessageSizeTooLarge
                | Code::InvalidMessage
        )
    )
}
