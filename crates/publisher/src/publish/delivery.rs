//! Tracks the delivery of the records of one request. A future resolves once the last record is acknowledged or
//! failed.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::trace::Span;
use tokio::sync::oneshot;

use crate::limits::admission::AdmissionPermit;
use crate::metrics::PublisherMetrics;

/// The outcome of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It may or may not be in Kafka.
    Unknown,
    /// It is in Kafka.
    Written {
        /// Its partition.
        partition: i32,
        /// Its offset in the partition.
        offset: i64,
    },
    /// It is not in Kafka, and a retry would not help.
    Refused(RejectReason),
}

/// Why Kafka refuses a record permanently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The publisher is not authorized to write to the topic.
    NotAuthorized,
    /// The record is larger than the topic allows.
    TooLarge,
    /// The record violates a policy of the topic or the cluster.
    PolicyViolation,
}

impl RejectReason {
    /// The reason for the caller.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAuthorized => "the publisher is not authorized to write to the topic",
            Self::TooLarge => "is too large for the topic",
            Self::PolicyViolation => "violates a policy of the topic",
        }
    }
}

impl From<RDKafkaErrorCode> for DeliveryOutcome {
    /// Only the broker's own response to the write is definite. After a timeout, a purge or any other error, an
    /// earlier attempt may have written the record.
    fn from(code: RDKafkaErrorCode) -> Self {
        match code {
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                Self::Refused(RejectReason::NotAuthorized)
            }
            RDKafkaErrorCode::MessageSizeTooLarge => Self::Refused(RejectReason::TooLarge),
            RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::PolicyViolation => {
                Self::Refused(RejectReason::PolicyViolation)
            }
            _ => Self::Unknown,
        }
    }
}

impl From<&KafkaError> for DeliveryOutcome {
    fn from(error: &KafkaError) -> Self {
        error.rdkafka_error_code().map_or(Self::Unknown, Self::from)
    }
}

/// Issues a token for each record of one request, in order. When the last [`DeliveryToken`] is dropped, the permit is
/// released and the future resolves.
pub(crate) struct DeliveryTracker {
    pending: Arc<Pending>,
    /// The number of issued tokens. The other threads need it only at the end.
    issued: Cell<usize>,
}

/// Resolves to the outcome of each record, in the order of the tokens.
pub(crate) type DeliveryFuture = oneshot::Receiver<Vec<DeliveryOutcome>>;

struct Pending {
    state: Mutex<PendingState>,
    started: Instant,
    metrics: Arc<PublisherMetrics>,
    span: Option<Span>,
}

struct PendingState {
    outcomes: Vec<DeliveryOutcome>,
    permit: Option<AdmissionPermit>,
    sender: Option<oneshot::Sender<Vec<DeliveryOutcome>>>,
}

/// Travels with a record through the producer.
pub(crate) struct DeliveryToken {
    pending: Arc<Pending>,
    index: usize,
}

impl DeliveryTracker {
    /// Tracks at most `capacity` records and holds `permit` until the last of them is completed, which ends `span`.
    pub(crate) fn new(
        capacity: usize,
        permit: AdmissionPermit,
        metrics: Arc<PublisherMetrics>,
        span: Option<Span>,
    ) -> (Self, DeliveryFuture) {
        let (sender, future) = oneshot::channel();
        let state = PendingState {
            outcomes: vec![DeliveryOutcome::Unknown; capacity],
            permit: Some(permit),
            sender: Some(sender),
        };
        let pending = Pending {
            state: Mutex::new(state),
            started: Instant::now(),
            metrics,
            span,
        };
        let pending = Arc::new(pending);
        let issued = Cell::new(0);
        (Self { pending, issued }, future)
    }

    /// Issues the token of the next record. Its outcome is unknown until the token is completed.
    pub(crate) fn token(&self) -> DeliveryToken {
        let index = self.issued.replace(self.issued.get() + 1);
        DeliveryToken {
            pending: Arc::clone(&self.pending),
            index,
        }
    }

    /// Revokes the last token: its record was not queued.
    pub(crate) fn revoke(&self, token: &DeliveryToken) {
        self.issued.set(token.index);
    }

    /// Changes what the request holds of the limits.
    pub(crate) fn update_permit<T>(&self, change: impl FnOnce(&mut AdmissionPermit) -> T) -> T {
        self.pending.update(|state| {
            let permit = state.permit.as_mut();
            change(
                permit.expect(
                    "the permit is released after the last token, and the tracker holds it until then",
                ),
            )
        })
    }

    /// Ends the request: no further token is issued.
    pub(crate) fn close(self) {}
}

impl Drop for DeliveryTracker {
    /// Releases the permits of the records that were not queued.
    fn drop(&mut self) {
        let issued = self.issued.get();
        self.pending.update(|state| {
            state.outcomes.truncate(issued);
            if let Some(permit) = &mut state.permit {
                permit.keep_records(issued);
            }
        });
    }
}

impl DeliveryToken {
    /// Sets the outcome of the record.
    pub(crate) fn complete(self, outcome: DeliveryOutcome) {
        self.pending.update(|state| state.outcomes[self.index] = outcome);
    }
}

impl Pending {
    fn update<T>(&self, change: impl FnOnce(&mut PendingState) -> T) -> T {
        // A panic of another thread leaves valid data behind: an outcome that is not set is unknown.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let outcomes = std::mem::take(&mut state.outcomes);
        if !outcomes.is_empty() {
            count(&self.metrics, self.started, &outcomes, self.span.take());
        } else if let Some(span) = self.span.take() {
            span.discard();
        }
        // Before the response: the caller's next request must be able to acquire what this one held.
        drop(state.permit.take());
        if let Some(sender) = state.sender.take() {
            // The receiver is gone if the caller has disconnected.
            drop(sender.send(outcomes));
        }
    }
}

fn count(metrics: &PublisherMetrics, started: Instant, outcomes: &[DeliveryOutcome], span: Option<Span>) {
    let of = |kind: fn(&DeliveryOutcome) -> bool| outcomes.iter().filter(|outcome| kind(outcome)).count();
    metrics.count_records(
        "accepted",
        of(|outcome| matches!(outcome, DeliveryOutcome::Written { .. })),
    );
    metrics.count_records(
        "refused",
        of(|outcome| matches!(outcome, DeliveryOutcome::Refused(_))),
    );
    metrics.count_records("unknown", of(|outcome| *outcome == DeliveryOutcome::Unknown));
    let seconds = started.elapsed().as_secs_f64();
    metrics.delivery_duration.observe(seconds);
    if let Some(mut span) = span {
        span.set("messaging.batch.message_count", outcomes.len());
        if of(|outcome| matches!(outcome, DeliveryOutcome::Written { .. })) < outcomes.len() {
            span.fail("Kafka has not acknowledged every record");
        }
        let trace = span.context().trace;
        metrics.delivery_duration.set_exemplar(seconds, trace);
    }
    let records = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
    metrics.batch_records.observe(f64::from(records));
}

#[cfg(test)]
mod tests {
    use service::Metrics;

    use super::*;
    use crate::config::LimitSettings;
    use crate::limits::admission::Admission;

    const WRITTEN: DeliveryOutcome = DeliveryOutcome::Written {
        partition: 1,
        offset: 7,
    };

    fn tracker(records: usize) -> (DeliveryTracker, DeliveryFuture, Arc<PublisherMetrics>) {
        let metrics = Arc::new(PublisherMetrics::new(&Metrics::new("test")));
        let mut permit = Admission::new(&LimitSettings::default(), &metrics).enter();
        permit.acquire_records(records).unwrap();
        let (tracker, future) = DeliveryTracker::new(records, permit, Arc::clone(&metrics), None);
        (tracker, future, metrics)
    }

    #[test]
    fn future_resolves_with_the_last_completed_token() {
        let (tracker, mut future, metrics) = tracker(3);
        let (first, second) = (tracker.token(), tracker.token());
        tracker.close();
        assert_eq!(metrics.records_in_flight.get(), 2, "the third was not queued");
        second.complete(DeliveryOutcome::Refused(RejectReason::TooLarge));
        assert!(future.try_recv().is_err());
        first.complete(WRITTEN);
        let outcomes = future.try_recv().unwrap();
        assert_eq!(
            outcomes,
            [WRITTEN, DeliveryOutcome::Refused(RejectReason::TooLarge)]
        );
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.records.with_label_values(&["accepted"]).get(), 1);
        assert_eq!(metrics.records.with_label_values(&["refused"]).get(), 1);
    }

    #[test]
    fn dropped_token_leaves_its_record_unknown() {
        let (tracker, mut future, metrics) = tracker(2);
        let (first, second) = (tracker.token(), tracker.token());
        tracker.close();
        first.complete(WRITTEN);
        drop(second);
        assert_eq!(future.try_recv().unwrap(), [WRITTEN, DeliveryOutcome::Unknown]);
        assert_eq!(metrics.records.with_label_values(&["unknown"]).get(), 1);
    }

    #[test]
    fn revoked_token_has_no_outcome() {
        let (tracker, mut future, _) = tracker(1);
        let token = tracker.token();
        tracker.revoke(&token);
        drop(token);
        tracker.close();
        assert!(future.try_recv().unwrap().is_empty());
    }

    #[test]
    fn unused_capacity_is_not_unknown() {
        let (tracker, mut future, metrics) = tracker(3);
        drop(tracker);
        assert!(future.try_recv().unwrap().is_empty());
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.records.with_label_values(&["unknown"]).get(), 0);
    }

    #[test]
    fn dropped_future_does_not_stop_the_delivery() {
        let (tracker, future, metrics) = tracker(1);
        let token = tracker.token();
        tracker.close();
        drop(future);
        token.complete(WRITTEN);
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.records.with_label_values(&["accepted"]).get(), 1);
    }

    #[test]
    fn only_a_refusal_by_the_broker_is_definite() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::MessageTimedOut,
            Code::PurgeInflight,
            Code::Fatal,
            Code::NotEnoughReplicasAfterAppend,
            Code::UnknownTopic,
        ] {
            assert_eq!(DeliveryOutcome::from(code), DeliveryOutcome::Unknown, "{code:?}");
        }
        assert_eq!(
            DeliveryOutcome::from(Code::TopicAuthorizationFailed),
            DeliveryOutcome::Refused(RejectReason::NotAuthorized)
        );
    }
}
