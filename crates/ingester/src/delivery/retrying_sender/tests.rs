//! Tests of the retries and splits of one batch, with a scripted publisher.

use std::collections::VecDeque;
use std::sync::Mutex;

use service::Health;

use super::*;
use crate::delivery::record_batch::tests::records_of;
use crate::transform::encoded_records::EncodedRecords;

/// Returns the scripted errors, then accepts every record. Records each request.
#[derive(Default)]
struct ScriptedPublisher {
    errors: Mutex<VecDeque<ResponseError>>,
    sent: Mutex<Vec<(u64, u64)>>,
    largest: Option<u64>,
}

impl PublisherClient for ScriptedPublisher {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        self.sent.lock().unwrap().push((request.first, request.records));
        if self.largest.is_some_and(|largest| request.records > largest) {
            return Err(ResponseError::TooLarge.into());
        }
        match self.errors.lock().unwrap().pop_front() {
            Some(error) => Err(error.into()),
            None => Ok(BatchOutcome {
                accepted: request.records,
                rejected: vec![],
            }),
        }
    }
}

fn sender(client: ScriptedPublisher) -> RetryingSender<ScriptedPublisher> {
    let settings = PublisherSettings {
        backoff: Backoff {
            initial: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        max_invalid_responses: 2,
        ..PublisherSettings::default()
    };
    RetryingSender::new(client, &settings, PublisherHealth::new(&Health::default()))
}

fn retryable(status: u16, retry_after: Option<Duration>) -> ResponseError {
    ResponseError::Retryable { status, retry_after }
}

const INVALID: ResponseError = ResponseError::Invalid {
    status: 200,
    reason: "scripted",
};

async fn deliver(
    sender: &RetryingSender<ScriptedPublisher>,
    page: &EncodedRecords,
    stats: &RunStats,
) -> Result<(), DeliveryError> {
    let batch = RecordBatch::new(page, 0..page.len(), 100);
    let acknowledge = |_: &RecordBatch<'_>, outcome: &BatchOutcome| {
        stats.record_outcome(outcome);
        Ok(())
    };
    let context = DeliveryContext {
        run: Uuid::nil(),
        fetched_at: None,
        stats,
        trace: &RunTrace::default(),
        halt: &CancellationToken::new(),
    };
    let delivered = sender.deliver(&context, batch, acknowledge).await?;
    assert_eq!(delivered, SendOutcome::Complete);
    Ok(())
}

async fn deliver_after(
    errors: impl IntoIterator<Item = ResponseError>,
) -> (Result<(), DeliveryError>, RunStats) {
    let stats = RunStats::for_tests();
    let errors = Mutex::new(errors.into_iter().collect());
    let sender = sender(ScriptedPublisher {
        errors,
        ..ScriptedPublisher::default()
    });
    (deliver(&sender, &records_of(3), &stats).await, stats)
}

#[tokio::test]
async fn uncertain_requests_are_retried_until_acknowledged() {
    let (outcome, stats) =
        deliver_after((0..50).map(|i| retryable([503, 504, 429, 500, 408][i % 5], None))).await;
    outcome.unwrap();
    assert_eq!((stats.counts().accepted, stats.counts().retried), (3, 50));
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let started = Instant::now();
    let (outcome, _) = deliver_after([retryable(503, Some(Duration::from_millis(70)))]).await;
    outcome.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(70));
}

#[tokio::test]
async fn invalid_responses_are_retried_up_to_the_limit() {
    let (outcome, stats) = deliver_after([INVALID, INVALID]).await;
    outcome.unwrap();
    assert_eq!(stats.counts().accepted, 3);
    let (outcome, stats) = deliver_after([INVALID, INVALID, INVALID]).await;
    assert!(matches!(outcome, Err(DeliveryError::InvalidResponses(3, _))));
    assert_eq!((stats.counts().accepted, stats.counts().rejected), (0, 0));
}

#[tokio::test]
async fn permanent_error_fails_at_once_with_its_reason() {
    let error = ResponseError::Permanent {
        status: 502,
        detail: ": topic authorization failed".into(),
    };
    let error = deliver_after([error]).await.0.unwrap_err();
    let text = service::process::chain(&error);
    assert_eq!(
        text,
        "the publisher rejected a request: the publisher responded with 502: topic authorization failed"
    );
}

#[tokio::test]
async fn rejected_credentials_are_unauthorized() {
    let (outcome, _) = deliver_after([ResponseError::Unauthorized { status: 401 }]).await;
    assert!(matches!(outcome, Err(DeliveryError::Unauthorized(_))));
}

#[tokio::test]
async fn oversized_batch_is_split_in_order_until_it_fits() {
    let stats = RunStats::for_tests();
    let sender = sender(ScriptedPublisher {
        largest: Some(2),
        ..ScriptedPublisher::default()
    });
    deliver(&sender, &records_of(7), &stats).await.unwrap();
    let sent = sender.client.sent.lock().unwrap().clone();
    let fitting: Vec<_> = sent.into_iter().filter(|(_, records)| *records <= 2).collect();
    assert_eq!(fitting, [(100, 1), (101, 2), (103, 2), (105, 2)]);
    assert_eq!(stats.counts().accepted, 7);
}

#[tokio::test]
async fn oversized_record_is_rejected_alone() {
    let stats = RunStats::for_tests();
    let sender = sender(ScriptedPublisher {
        largest: Some(0),
        ..ScriptedPublisher::default()
    });
    deliver(&sender, &records_of(2), &stats).await.unwrap();
    let counts = stats.counts();
    assert_eq!((counts.accepted, counts.rejected), (0, 2));
    assert_eq!(
        counts.rejected_reasons["record: is too large for the publisher"],
        2
    );
}

fn foreign(status: u16) -> ResponseError {
    ResponseError::Foreign {
        status,
        retry_after: None,
        detail: ": text/html".into(),
    }
}

#[tokio::test]
async fn foreign_responses_are_retried_without_limit() {
    let statuses = [502, 404, 403, 401, 301, 200, 503];
    let (outcome, stats) = deliver_after((0..70).map(|i| foreign(statuses[i % 7]))).await;
    outcome.unwrap();
    assert_eq!((stats.counts().accepted, stats.counts().retried), (3, 70));
}

#[tokio::test]
async fn foreign_413_splits_a_batch_and_rejects_no_record() {
    // The batch of three, its single front record twice, then everything is accepted.
    let (outcome, stats) = deliver_after([foreign(413), foreign(413), foreign(413)]).await;
    outcome.unwrap();
    let counts = stats.counts();
    assert_eq!((counts.accepted, counts.rejected, counts.retried), (3, 0, 2));
}
