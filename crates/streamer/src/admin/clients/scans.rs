//! Scans of the topic and of the dead-letter topic.

use std::ops::Range;

use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use tokio::time::timeout;

use crate::admin::clients::{Clients, TIMEOUT, timed_out, watermarks};
use crate::admin::error::CommandError;
use crate::consumer::scan::{self, Scan, ScannedRecord};
use ::kafka::ClientRejected;

impl Clients {
    /// Starts to read these offset ranges of the topic.
    ///
    /// # Errors
    /// When librdkafka rejects the configuration.
    pub(in crate::admin) fn scan(
        &self,
        ranges: impl IntoIterator<Item = (i32, Range<i64>)>,
    ) -> Result<Scan, CommandError> {
        self.scan_with(ranges, |message| Some(ScannedRecord::copy(message)))
    }

    /// Starts to read these offset ranges of the topic, and returns what `take` returns.
    ///
    /// # Errors
    /// When librdkafka rejects the configuration.
    pub(in crate::admin) fn scan_with<T: Send + 'static>(
        &self,
        ranges: impl IntoIterator<Item = (i32, Range<i64>)>,
        take: impl FnMut(&BorrowedMessage<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Scan<T>, CommandError> {
        let settings = &self.settings.kafka;
        let scan = scan::scan_with(settings, settings.topic(), ranges, take);
        scan.map_err(|error| self.not_created(error))
    }

    /// Starts to read all present dead letters.
    ///
    /// # Errors
    /// As [`kafka`](Self::kafka).
    pub(in crate::admin) async fn scan_dead_letters(&self) -> Result<Scan, CommandError> {
        let settings = &self.settings.kafka;
        let topic = settings.dead_letter_topic();
        let (_, ends) = self
            .request(&self.dead_letter_metadata, topic, watermarks)
            .await?;
        let ranges = (0..).zip(ends.into_iter().map(|(beginning, end)| beginning..end));
        scan::scan(settings, topic, ranges).map_err(|error| self.not_created(error))
    }

    /// Returns what is taken of the next records of a scan, or `None` at its end.
    ///
    /// # Errors
    /// When Kafka rejects the scan, or no record arrives in time.
    pub(in crate::admin) async fn next<T>(&self, scan: &mut Scan<T>) -> Result<Option<Vec<T>>, CommandError> {
        let chunk = timeout(TIMEOUT, scan.next()).await;
        let chunk = chunk.map_err(|_| {
            let brokers = self.settings.kafka.brokers.join(",");
            let reason =
                format!("received neither a record nor the end of the topic from kafka.brokers {brokers}");
            timed_out("kafka", TIMEOUT, reason)
        })?;
        chunk.transpose().map_err(|error| {
            if ::kafka::is_rejected(&error) {
                let operation = format!("read topic {}", scan.topic());
                ClientRejected::new(&operation, &self.settings.kafka.brokers, error).into()
            } else {
                CommandError::Scan(error)
            }
        })
    }

    fn not_created(&self, error: KafkaError) -> CommandError {
        ClientRejected::configuration(&self.settings.kafka.brokers, error).into()
    }
}
