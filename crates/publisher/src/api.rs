//! The routes. Each request goes through the same door: is Kafka there, is there room, then the body, the records
//! and the wait for Kafka's last word.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{delete, post};
use bytes::Bytes;
use jiff::Timestamp;
use model::UserId;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, NoRoom, Reservation};
use crate::body::Incoming;
use crate::link::KafkaLink;
use crate::metrics::PublisherMetrics;
use crate::origin::{self, Origin};
use crate::problem::Problem;
use crate::producer::Producer;
use crate::publication::{Bounds, Publication, Publisher};
use crate::records::Format;
use crate::settings::{GIVING_UP, PublisherSettings};

/// Bodies above this size, in bytes, take milliseconds to parse; they leave the threads that serve connections.
const LARGE_BODY: usize = 128 * 1024;

/// What the routes work with.
pub struct Door {
    admission: Admission,
    producer: Arc<Producer>,
    link: KafkaLink,
    metrics: PublisherMetrics,
    stopping: CancellationToken,
    large_bodies: Semaphore,
    bounds: Bounds,
    max_body: usize,
    body_timeout: Duration,
    request_deadline: Duration,
    /// How long the producer may still be trying after a record was queued.
    giving_up: Duration,
}

impl Door {
    /// A door to `producer`, which takes nothing more once `stopping` is cancelled.
    pub fn new(
        settings: &PublisherSettings,
        producer: Arc<Producer>,
        link: KafkaLink,
        metrics: PublisherMetrics,
        stopping: CancellationToken,
    ) -> Self {
        let bytes = |size: bytesize::ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            admission: Admission::new(&settings.limits, &metrics),
            producer,
            link,
            metrics,
            stopping,
            large_bodies: Semaphore::new(processors),
            bounds: Bounds {
                record: bytes(settings.limits.max_record),
                records: settings.limits.max_records,
            },
            max_body: bytes(settings.limits.max_body),
            body_timeout: settings.http.body_timeout,
            request_deadline: settings.http.request_deadline,
            giving_up: settings.kafka.message_timeout + GIVING_UP,
        }
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

    async fn body(&self, headers: &HeaderMap, body: Body) -> Result<(Bytes, Reservation), Problem> {
        let mut incoming = Incoming::new(headers, body, self.max_body);
        let mut reservation = self.admission.enter();
        let deadline = Instant::now() + self.body_timeout;
        match incoming.read(deadline, &mut reservation).await {
            Ok(bytes) => Ok((bytes, reservation)),
            Err(error) => {
                drop(reservation);
                incoming.discard().await;
                Err(error.into())
            }
        }
    }

    fn publisher(&self) -> Publisher<'_> {
        Publisher {
            producer: &self.producer,
            metrics: &self.metrics,
            bounds: self.bounds,
        }
    }
}

/// The routes, and the answers to everything else.
pub fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/v1/users", post(create))
        .route("/v1/users/{id}", delete(erase))
        .fallback(async || Problem::no_such_path())
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(middleware::from_fn_with_state(Arc::clone(&door), observe))
        .with_state(door)
}

/// `POST /v1/users`
async fn create(State(door): State<Arc<Door>>, request: Request) -> Result<Response<Body>, Problem> {
    let deadline = Instant::now() + door.request_deadline;
    let (head, body) = request.into_parts();
    let (format, origin) = match door.open().and_then(|()| described(&head.headers)) {
        Ok(described) => described,
        Err(problem) => {
            Incoming::new(&head.headers, body, door.max_body).discard().await;
            return Err(problem);
        }
    };
    let (bytes, reservation) = door.body(&head.headers, body).await?;
    let publication = publish(&door, bytes, format, origin, reservation, deadline).await?;
    let settled = timeout_at(deadline, publication.settled()).await;
    Ok(settled.map_err(|_| Problem::unknown(None))?.answer())
}

/// `DELETE /v1/users/{id}`
async fn erase(
    State(door): State<Arc<Door>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let deadline = Instant::now() + door.request_deadline;
    door.open()?;
    let id: UserId = id.parse().map_err(|reason| Problem::not_an_id(&reason))?;
    let origin = Origin::of(&headers, Timestamp::now())?;
    door.still_time(deadline)?;
    let publication = door.publisher().erase(id, &origin, door.admission.enter())?;
    let settled = timeout_at(deadline, publication.settled()).await;
    let answer = settled.map_err(|_| Problem::unknown(None))?.answer();
    Ok(if answer.status() == StatusCode::OK {
        StatusCode::NO_CONTENT.into_response()
    } else {
        answer
    })
}

/// What the headers say of the body.
fn described(headers: &HeaderMap) -> Result<(Format, Origin), Problem> {
    let content_type = origin::only(headers, "content-type")?;
    let format = content_type.and_then(Format::of).ok_or_else(|| {
        Problem::unsupported("the Content-Type must be application/json or application/x-ndjson, in UTF-8")
    })?;
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::unsupported("the Content-Encoding is not understood"));
    }
    Ok((format, Origin::of(headers, Timestamp::now())?))
}

async fn publish(
    door: &Arc<Door>,
    body: Bytes,
    format: Format,
    origin: Origin,
    reservation: Reservation,
    deadline: Instant,
) -> Result<Publication, Problem> {
    if body.len() <= LARGE_BODY {
        door.still_time(deadline)?;
        return Ok(door.publisher().publish(&body, format, &origin, reservation)?);
    }
    let _turn = timeout_at(deadline, door.large_bodies.acquire())
        .await
        .map_err(|_| NoRoom)?;
    door.still_time(deadline)?;
    let shared = Arc::clone(door);
    let parsing = move || shared.publisher().publish(&body, format, &origin, reservation);
    let parsed = tokio::task::spawn_blocking(parsing).await;
    // A panic on the way leaves records behind of which nobody can say.
    Ok(parsed.map_err(|_: JoinError| Problem::unknown(None))??)
}

/// Counts every request, also one whose caller leaves before the answer.
async fn observe(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response<Body> {
    let observed = Observed::begin(door.metrics.clone());
    let response = next.run(request).await;
    observed.answered(response.status());
    response
}

struct Observed {
    metrics: PublisherMetrics,
    started: Instant,
    status: Option<StatusCode>,
}

impl Observed {
    fn begin(metrics: PublisherMetrics) -> Self {
        metrics.requests_in_flight.inc();
        Self {
            metrics,
            started: Instant::now(),
            status: None,
        }
    }

    fn answered(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let status = self.status.as_ref().map_or("disconnected", StatusCode::as_str);
        self.metrics.request_answered(status);
        self.metrics.requests_in_flight.dec();
        self.metrics
            .request_seconds
            .observe(self.started.elapsed().as_secs_f64());
    }
}
