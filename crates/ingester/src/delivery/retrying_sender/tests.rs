use std::collections::VecDeque;
use std::sync::Mutex;

use service::Health;

use super::*;
use crate::delivery::record_batch::tests::records_of;
use crate::transform::records::Records;

/// Answers as the script says, then accepts whatever comes; notes what it was sent.
#[derive(Default)]
struct ScriptedPublisher {
    answers: Mutex<VecDeque<ResponseError>>,
    sent: Mutex<Vec<(u64, u64)>>,
    largest: Option<u64>,
}

impl PublisherClient for ScriptedPublisher {
    async fn publish(&self, request: &PublishRequest) -> Result<BatchOutcome, SendError> {
        self.sent.lock().unwrap().push((request.first, request.records));
        if self.largest.is_some_and(|largest| request.records > largest) {
            return Err(ResponseError::TooLarge.into());
        }
        match self.answers.lock().unwrap().pop_front() {
            Some(refusal) => Err(refusal.into()),
            None => Ok(BatchOutcome {
                accepted: request.records,
                rejected: vec![],
            }),
        }
    }
}

fn sender(post: ScriptedPublisher) -> RetryingSender<ScriptedPublisher> {
    let settings = PublisherSettings {
        backoff: Backoff {
            initial: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        max_invalid_responses: 2,
        ..PublisherSettings::default()
    };
    RetryingSender::new(post, &settings, PublisherHealth::new(&Health::default()))
}

fn later(status: u16, retry_after: Option<Duration>) -> ResponseError {
    ResponseError::Retryable { status, retry_after }
}

const INVALID: ResponseError = ResponseError::Invalid {
    status: 200,
    reason: "it says so",
};

async fn deliver(
    sender: &RetryingSender<ScriptedPublisher>,
    page: &Records,
    stats: &RunStats,
) -> Result<(), DeliveryError> {
    let batch = RecordBatch::new(page, 0..page.len(), 100);
    let acknowledge = |_: &RecordBatch<'_>, outcome: &BatchOutcome| {
        stats.record_outcome(outcome);
        Ok(())
    };
    let context = DeliveryContext {
        run: Uuid::nil(),
        stats,
        halt: &CancellationToken::new(),
    };
    let delivered = sender.deliver(&context, batch, acknowledge).await?;
    assert_eq!(delivered, SendOutcome::Complete);
    Ok(())
}

async fn after(answers: impl IntoIterator<Item = ResponseError>) -> (Result<(), DeliveryError>, RunStats) {
    let stats = RunStats::for_tests();
    let answers = Mutex::new(answers.into_iter().collect());
    let sender = sender(ScriptedPublisher {
        answers,
        ..ScriptedPublisher::default()
    });
    (deliver(&sender, &records_of(3), &stats).await, stats)
}

#[tokio::test]
async fn what_may_not_have_arrived_is_sent_until_it_is_accounted_for() {
    let (outcome, stats) = after((0..50).map(|i| later([503, 504, 429, 500, 408][i % 5], None))).await;
    outcome.unwrap();
    assert_eq!((stats.counts().accepted, stats.counts().retried), (3, 50));
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let started = Instant::now();
    let (outcome, _) = after([later(503, Some(Duration::from_millis(70)))]).await;
    outcome.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(70));
}

#[tokio::test]
async fn a_few_answers_that_do_not_add_up_are_tolerated_and_never_counted() {
    let (outcome, stats) = after([INVALID, INVALID]).await;
    outcome.unwrap();
    assert_eq!(stats.counts().accepted, 3);
    let (outcome, stats) = after([INVALID, INVALID, INVALID]).await;
    assert!(matches!(outcome, Err(DeliveryError::InvalidResponses(3, _))));
    assert_eq!((stats.counts().accepted, stats.counts().rejected), (0, 0));
}

#[tokio::test]
async fn a_definite_no_ends_at_once_with_its_reason() {
    let no = ResponseError::Permanent {
        status: 502,
        detail: ": topic authorization failed".into(),
    };
    let error = after([no]).await.0.unwrap_err();
    let text = service::process::chain(&error);
    assert_eq!(
        text,
        "the publisher refused a request: answered 502: topic authorization failed"
    );
}

#[tokio::test]
async fn refused_credentials_are_told_apart() {
    let (outcome, _) = after([ResponseError::Unauthorized { status: 401 }]).await;
    assert!(matches!(outcome, Err(DeliveryError::Unauthorized(_))));
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_in_order_until_it_fits() {
    let stats = RunStats::for_tests();
    let sender = sender(ScriptedPublisher {
        largest: Some(2),
        ..ScriptedPublisher::default()
    });
    deliver(&sender, &records_of(7), &stats).await.unwrap();
    let sent = sender.client.sent.lock().unwrap().clone();
    let carried: Vec<_> = sent.into_iter().filter(|(_, records)| *records <= 2).collect();
    assert_eq!(carried, [(100, 1), (101, 2), (103, 2), (105, 2)]);
    assert_eq!(stats.counts().accepted, 7);
}

#[tokio::test]
async fn a_single_record_that_is_too_large_is_rejected_alone() {
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
