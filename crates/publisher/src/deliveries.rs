//! What became of the records of one request: one shared acknowledgement for all of them, complete when Kafka has
//! spoken about the last. It waits for nobody and answers nobody.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot;

use crate::admission::Reservation;
use crate::metrics::PublisherMetrics;

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody can say whether it was written.
    Unknown,
    /// Kafka has it.
    Written {
        /// The partition it lies in.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// Kafka has definitely not taken it.
    Refused(Refusal),
}

/// Why Kafka takes a record in no case, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// We may not write to the topic.
    NotAuthorized,
    /// The topic takes no message of this size.
    TooLarge,
    /// A rule of the topic or the cluster forbids it.
    AgainstPolicy,
}

impl Refusal {
    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAuthorized => "Kafka does not let the publisher write to the topic",
            Self::TooLarge => "is too large for the topic",
            Self::AgainstPolicy => "is against a policy of the topic",
        }
    }
}

impl From<RDKafkaErrorCode> for Outcome {
    /// Only what the broker itself said in answer to the write is definite. A message that ran out of time, was
    /// purged or met any other error may have been written by an earlier attempt.
    fn from(code: RDKafkaErrorCode) -> Self {
        match code {
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                Self::Refused(Refusal::NotAuthorized)
            }
            RDKafkaErrorCode::MessageSizeTooLarge => Self::Refused(Refusal::TooLarge),
            RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::PolicyViolation => {
                Self::Refused(Refusal::AgainstPolicy)
            }
            _ => Self::Unknown,
        }
    }
}

/// The records of one request that were given to the producer, in order. It comes to its end, and with it the
/// room its records took, when the last [`Ticket`] is gone, in whichever way.
pub(crate) struct Deliveries {
    pending: Arc<Pending>,
    /// How many tickets were given. Nobody else needs to know before the last is.
    given: Cell<usize>,
}

/// Resolves to the outcome of each record, in the order they were given to the producer.
pub(crate) type Receipt = oneshot::Receiver<Vec<Outcome>>;

struct Pending {
    state: Mutex<State>,
    started: Instant,
    metrics: Arc<PublisherMetrics>,
}

struct State {
    outcomes: Vec<Outcome>,
    reservation: Option<Reservation>,
    waiting: Option<oneshot::Sender<Vec<Outcome>>>,
}

/// Goes with a record through the producer.
pub(crate) struct Ticket {
    pending: Arc<Pending>,
    index: usize,
}

impl Deliveries {
    /// Expects at most `capacity` records; `reservation` is held until the last of them is settled.
    pub(crate) fn expect(
        capacity: usize,
        reservation: Reservation,
        metrics: Arc<PublisherMetrics>,
    ) -> (Self, Receipt) {
        let (waiting, receipt) = oneshot::channel();
        let state = State {
            outcomes: vec![Outcome::Unknown; capacity],
            reservation: Some(reservation),
            waiting: Some(waiting),
        };
        let pending = Pending {
            state: Mutex::new(state),
            started: Instant::now(),
            metrics,
        };
        let pending = Arc::new(pending);
        let given = Cell::new(0);
        (Self { pending, given }, receipt)
    }

    /// The ticket of the next record, whose outcome is unknown until the ticket is settled.
    pub(crate) fn ticket(&self) -> Ticket {
        let index = self.given.replace(self.given.get() + 1);
        Ticket {
            pending: Arc::clone(&self.pending),
            index,
        }
    }

    /// Takes back the last ticket: its record was not given to the producer.
    pub(crate) fn take_back(&self, ticket: &Ticket) {
        self.given.set(ticket.index);
    }

    /// No further record comes.
    pub(crate) fn close(self) {}
}

impl Drop for Deliveries {
    /// What was reserved beyond the records that were given is free.
    fn drop(&mut self) {
        let given = self.given.get();
        self.pending.with(|state| {
            state.outcomes.truncate(given);
            if let Some(reservation) = &mut state.reservation {
                reservation.keep_records(given);
            }
        });
    }
}

impl Ticket {
    /// Notes the outcome.
    pub(crate) fn settle(self, outcome: Outcome) {
        self.pending.with(|state| state.outcomes[self.index] = outcome);
    }
}

impl Pending {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // A panic in another thread leaves plain data behind, in which what is not settled is unknown.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let outcomes = std::mem::take(&mut state.outcomes);
        if !outcomes.is_empty() {
            count(&self.metrics, self.started, &outcomes);
        }
        // The next request of the caller who hears the answer must find the room free.
        drop(state.reservation.take());
        if let Some(waiting) = state.waiting.take() {
            // A caller who has left does not hear the answer; what is written is written.
            drop(waiting.send(outcomes));
        }
    }
}

fn count(metrics: &PublisherMetrics, started: Instant, outcomes: &[Outcome]) {
    let of = |kind: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| kind(outcome)).count();
    metrics.count_records(
        "accepted",
        of(|outcome| matches!(outcome, Outcome::Written { .. })),
    );
    metrics.count_records("refused", of(|outcome| matches!(outcome, Outcome::Refused(_))));
    metrics.count_records("unknown", of(|outcome| *outcome == Outcome::Unknown));
    metrics.delivery_seconds.observe(started.elapsed().as_secs_f64());
    let records = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
    metrics.batch_records.observe(f64::from(records));
}

#[cfg(test)]
mod tests {
    use service::Metrics;

    use super::*;
    use crate::admission::Admission;
    use crate::settings::LimitSettings;

    const WRITTEN: Outcome = Outcome::Written {
        partition: 1,
        offset: 7,
    };

    fn expect(records: usize) -> (Deliveries, Receipt, Arc<PublisherMetrics>) {
        let metrics = Arc::new(PublisherMetrics::new(&Metrics::new("test")));
        let mut reservation = Admission::new(&LimitSettings::default(), &metrics).enter();
        reservation.take_records(records).unwrap();
        let (deliveries, receipt) = Deliveries::expect(records, reservation, Arc::clone(&metrics));
        (deliveries, receipt, metrics)
    }

    #[test]
    fn the_receipt_comes_with_the_last_settled_ticket() {
        let (deliveries, mut receipt, metrics) = expect(3);
        let (first, second) = (deliveries.ticket(), deliveries.ticket());
        deliveries.close();
        assert_eq!(metrics.records_in_flight.get(), 2, "the third was not needed");
        second.settle(Outcome::Refused(Refusal::TooLarge));
        assert!(receipt.try_recv().is_err());
        first.settle(WRITTEN);
        let outcomes = receipt.try_recv().unwrap();
        assert_eq!(outcomes, [WRITTEN, Outcome::Refused(Refusal::TooLarge)]);
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.records.with_label_values(&["accepted"]).get(), 1);
        assert_eq!(metrics.records.with_label_values(&["refused"]).get(), 1);
    }

    #[test]
    fn a_ticket_that_is_lost_leaves_its_record_unknown() {
        let (deliveries, mut receipt, metrics) = expect(2);
        let (first, second) = (deliveries.ticket(), deliveries.ticket());
        deliveries.close();
        first.settle(WRITTEN);
        drop(second);
        assert_eq!(receipt.try_recv().unwrap(), [WRITTEN, Outcome::Unknown]);
        assert_eq!(metrics.records.with_label_values(&["unknown"]).get(), 1);
    }

    #[test]
    fn a_ticket_that_is_taken_back_leaves_no_trace() {
        let (deliveries, mut receipt, _) = expect(1);
        let ticket = deliveries.ticket();
        deliveries.take_back(&ticket);
        drop(ticket);
        deliveries.close();
        assert!(receipt.try_recv().unwrap().is_empty());
    }

    #[test]
    fn what_was_expected_and_not_given_is_no_record_in_doubt() {
        let (deliveries, mut receipt, metrics) = expect(3);
        drop(deliveries);
        assert!(receipt.try_recv().unwrap().is_empty());
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.records.with_label_values(&["unknown"]).get(), 0);
    }

    #[test]
    fn a_caller_who_has_left_changes_nothing() {
        let (deliveries, receipt, metrics) = expect(1);
        let ticket = deliveries.ticket();
        deliveries.close();
        drop(receipt);
        ticket.settle(WRITTEN);
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.records.with_label_values(&["accepted"]).get(), 1);
    }

    #[test]
    fn only_what_the_broker_itself_refused_is_definite() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::MessageTimedOut,
            Code::PurgeInflight,
            Code::Fatal,
            Code::NotEnoughReplicasAfterAppend,
            Code::UnknownTopic,
        ] {
            assert_eq!(Outcome::from(code), Outcome::Unknown, "{code:?}");
        }
        assert_eq!(
            Outcome::from(Code::TopicAuthorizationFailed),
            Outcome::Refused(Refusal::NotAuthorized)
        );
    }
}
