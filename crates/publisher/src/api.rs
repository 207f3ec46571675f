//! The routes. Each request that writes goes through the same door: who calls, is Kafka there, is there room, then
//! the body, the records and the wait for Kafka's last word.

mod admit;
mod create;
mod documents;
mod erase;
mod observe;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::{delete, post};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{ServiceExt as _, service_fn};

use crate::admission::Admission;
use crate::callers::Callers;
use crate::link::KafkaLink;
use crate::memory::Memory;
use crate::metrics::PublisherMetrics;
use crate::problem::Problem;
use crate::producer::Producer;
use crate::publication::{Bounds, Publisher};
use crate::server::Api;
use crate::settings::{GIVING_UP, PublisherSettings};
use observe::observe;

pub use documents::openapi_document as openapi;

const KIB: usize = 1024;

/// What the routes work with.
pub struct Door {
    callers: Arc<Callers>,
    admission: Admission,
    memory: Memory,
    producer: Arc<Producer>,
    link: KafkaLink,
    metrics: Arc<PublisherMetrics>,
    stopping: CancellationToken,
    /// Requests whose answer is to be remembered go on when their callers have left.
    remembered: TaskTracker,
    /// As many compressed bodies are decoded at once as there are processors.
    decoders: Semaphore,
    /// Large bodies whose records are being queued, in KiB. Until a body's last record is in the producer's queue, which
    /// copies each, it is there twice; together that is no more than the largest body once.
    large_bodies: Semaphore,
    processors: usize,
    bounds: Bounds,
    max_body: usize,
    body_timeout: Duration,
    min_body_rate: u64,
    request_timeout: Duration,
    /// How long the producer may still be trying after a record was queued.
    giving_up: Duration,
}

impl Door {
    /// A door to `producer` for `callers`, which takes nothing more once `stopping` is cancelled.
    pub fn new(
        settings: &PublisherSettings,
        callers: Arc<Callers>,
        producer: Arc<Producer>,
        link: KafkaLink,
        metrics: Arc<PublisherMetrics>,
        stopping: CancellationToken,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let max_record = usize::try_from(settings.limits.max_record.as_u64()).unwrap_or(usize::MAX);
        Self {
            callers,
            admission: Admission::new(&settings.limits, &metrics),
            memory: Memory::new(settings.idempotency.clone()),
            producer,
            link,
            metrics,
            stopping,
            remembered: TaskTracker::new(),
            decoders: Semaphore::new(processors),
            large_bodies: Semaphore::new(settings.largest_body().div_ceil(KIB)),
            processors,
            bounds: Bounds {
                record: max_record,
                records: settings.limits.max_records,
            },
            max_body: settings.largest_body(),
            body_timeout: settings.http.body_timeout,
            min_body_rate: settings.http.min_body_rate.as_u64(),
            request_timeout: settings.http.request_timeout,
            giving_up: settings.kafka.message_timeout + GIVING_UP,
        }
    }

    /// Waits for what goes on without its caller. Nothing new must come in any more.
    pub async fn finish(&self) {
        self.remembered.close();
        self.remembered.wait().await;
    }

    /// Whether records can be taken at all.
    fn open(&self) -> Result<(), Problem> {
        if self.stopping.is_cancelled() {
            Err(Problem::stopping())
        } else if self.link.is_up() {
            Ok(())
        } else {
            Err(Problem::kafka_down())
        }
    }

    /// The last check before the first record is queued: the answer must not come before the producer gives up.
    fn still_time(&self, deadline: Instant) -> Result<(), Problem> {
        self.open()?;
        if Instant::now() + self.giving_up > deadline {
            return Err(Problem::no_room());
        }
        Ok(())
    }

    /// What a large body of that many bytes takes of `large_bodies`. No more of them at once than there are processors.
    fn weight(&self, bytes: usize) -> u32 {
        let all = self.max_body.div_ceil(KIB);
        let least = all.div_ceil(self.processors);
        u32::try_from(bytes.div_ceil(KIB).clamp(least, all)).unwrap_or(u32::MAX)
    }

    fn publisher(&self) -> Publisher<'_> {
        Publisher {
            producer: &self.producer,
            metrics: &self.metrics,
            bounds: self.bounds,
        }
    }
}

/// What answers each request, and counts it.
pub fn service(door: Arc<Door>) -> impl Api {
    let metrics = Arc::clone(&door.metrics);
    let router = router(door);
    // A layer would box the request's future once more.
    service_fn(move |request: Request| observe(Arc::clone(&metrics), router.clone().oneshot(request)))
}

/// The routes, and the answers to everything else.
fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/v1/users", post(create::create))
        .route("/v1/users/{id}", delete(erase::erase))
        .merge(documents::router())
        .fallback(async || Problem::no_such_path())
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .with_state(door)
}
