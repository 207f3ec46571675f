//! The state that all routes share, and the checks of each request before its records are queued.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use model::Contract;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{AccessLog, MESSAGE_TIMEOUT_SLACK, PublisherSettings};
use crate::http::problem::Problem;
use crate::kafka::producer::Producer;
use crate::kafka::status::KafkaStatus;
use crate::limits::admission::Admission;
use crate::limits::callers::Callers;
use crate::metrics::PublisherMetrics;
use crate::publish::idempotency::IdempotencyCache;
use crate::publish::publication::{Publisher, RequestLimits};

const KIB: usize = 1024;

/// What the routes share.
pub struct AppState {
    pub(super) contract: Arc<Contract>,
    pub(super) callers: Arc<Callers>,
    pub(super) admission: Admission,
    pub(super) idempotency: IdempotencyCache,
    pub(super) metrics: Arc<PublisherMetrics>,
    pub(super) access_log: AccessLog,
    pub(super) cors_origins: Vec<HeaderValue>,
    /// Requests with an idempotency key continue after their callers disconnect.
    pub(super) detached: TaskTracker,
    /// Limits concurrent decompression and hashing to the number of processors.
    pub(super) body_workers: Arc<Semaphore>,
    /// Limits large bodies whose records are being queued, in KiB. The producer's queue copies each record, so until
    /// the last one is queued the body is in memory twice. All these copies together are at most one body of maximum
    /// size.
    pub(super) large_bodies: Arc<Semaphore>,
    pub(super) max_body: usize,
    pub(super) body_timeout: Duration,
    pub(super) min_body_rate: u64,
    pub(super) request_timeout: Duration,
    producer: Arc<Producer>,
    kafka: KafkaStatus,
    shutdown: CancellationToken,
    processors: usize,
    request_limits: RequestLimits,
    /// How long the producer may keep a record that was queued.
    delivery_timeout: Duration,
}

impl AppState {
    /// State of an API that rejects requests once `shutdown` is cancelled.
    pub fn new(
        settings: &PublisherSettings,
        contract: Arc<Contract>,
        callers: Arc<Callers>,
        producer: Arc<Producer>,
        kafka: KafkaStatus,
        metrics: Arc<PublisherMetrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let max_record = usize::try_from(settings.limits.max_record.as_u64()).unwrap_or(usize::MAX);
        Self {
            contract,
            callers,
            admission: Admission::new(&settings.limits, &metrics),
            idempotency: IdempotencyCache::new(settings.idempotency.clone()),
            metrics,
            access_log: settings.http.access_log,
            cors_origins: settings.http.cors_origins(),
            detached: TaskTracker::new(),
            body_workers: Arc::new(Semaphore::new(processors)),
            large_bodies: Arc::new(Semaphore::new(settings.largest_body().div_ceil(KIB))),
            max_body: settings.largest_body(),
            body_timeout: settings.http.body_timeout,
            min_body_rate: settings.http.min_body_rate.as_u64(),
            request_timeout: settings.http.request_timeout,
            producer,
            kafka,
            shutdown,
            processors,
            request_limits: RequestLimits {
                max_record,
                max_records: settings.limits.max_records,
            },
            delivery_timeout: settings.kafka.message_timeout + MESSAGE_TIMEOUT_SLACK,
        }
    }

    /// Waits for the requests that continue without their callers. Call it after the server has stopped.
    pub async fn finish(&self) {
        self.detached.close();
        self.detached.wait().await;
    }

    /// Rejects a request during shutdown and while Kafka is unavailable.
    pub(super) fn check_available(&self) -> Result<(), Problem> {
        self.check_not_stopping()?;
        if self.kafka.is_up() {
            Ok(())
        } else {
            Err(Problem::kafka_unavailable())
        }
    }

    /// Rejects a request during shutdown.
    pub(super) fn check_not_stopping(&self) -> Result<(), Problem> {
        if self.shutdown.is_cancelled() {
            return Err(Problem::shutting_down());
        }
        Ok(())
    }

    /// The last check before the first record is queued. The delivery timeout has to end before `deadline`, so that
    /// the response follows the producer's result.
    pub(super) fn check_deadline(&self, deadline: Instant) -> Result<(), Problem> {
        self.check_available()?;
        if Instant::now() + self.delivery_timeout > deadline {
            return Err(Problem::overloaded());
        }
        Ok(())
    }

    /// The permits of `large_bodies` for a body of that many bytes. At most one body for each processor gets them.
    pub(super) fn body_permits(&self, bytes: usize) -> u32 {
        let all = self.max_body.div_ceil(KIB);
        let least = all.div_ceil(self.processors);
        u32::try_from(bytes.div_ceil(KIB).clamp(least, all)).unwrap_or(u32::MAX)
    }

    pub(super) fn publisher(&self) -> Publisher<'_> {
        Publisher {
            contract: &self.contract,
            producer: &self.producer,
            metrics: &self.metrics,
            limits: self.request_limits,
        }
    }
}
