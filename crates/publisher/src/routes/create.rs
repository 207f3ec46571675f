//! `POST /v1/{resource}`: publishes records and reports the result of each.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use jiff::Timestamp;
use model::headers::http;
use service::http::auth::Role;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::admit::admit;
use super::blocking::run_blocking;
use super::refuse::refuse;
use super::state::AppState;
use crate::http::problem::{Document, Problem};
use crate::limits::admission::{AdmissionPermit, Overloaded};
use crate::limits::callers::Caller;
use crate::publish::idempotency::{Claim, Fingerprint, IdempotencyKey, InFlightGuard};
use crate::publish::publication::Publication;
use crate::publish::response::PublishResponse;
use crate::publish::result::Counts;
use crate::request::body::{IncomingBody, TransferRate};
use crate::request::decompress::ContentEncoding;
use crate::request::framing::Format;
use crate::request::metadata::{RequestMetadata, single_header};
use crate::request::preference::Preference;

/// The size from which a body is hashed and parsed outside the threads that serve connections, in bytes: it takes milliseconds.
/// Compressed bodies leave those threads as well, because their plain size is unknown.
const LARGE_BODY: usize = 128 * 1024;

/// The parsed headers of a request.
struct RequestHead {
    format: Format,
    encoding: ContentEncoding,
    metadata: RequestMetadata,
    preference: Preference,
    key: Option<IdempotencyKey>,
}

/// A request whose body has been read.
struct ReceivedRequest {
    head: RequestHead,
    body: Bytes,
    permit: AdmissionPermit,
    deadline: Instant,
}

/// Publishes records. `documents` fills in the braces.
#[utoipa::path(
    post,
    path = "/v1/{resource}",
    summary = "Writes {resource}.",
    description = "The response comes after Kafka has acknowledged every valid record.",
    request_body(
        description = "One {noun}, an array of {resource}, or one {noun} a line; may be compressed with gzip or zstd",
        content(
            (serde_json::Value = "application/json"),
            (String = "application/x-ndjson"),
        )
    ),
    params(
        ("Run-Id" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
         description = "The run that created the records"),
        ("Run-Seq" = Option<i64>, Header, minimum = 0, description = "The number of the first record within the run"),
        ("Fetched-At-Us" = Option<i64>, Header, minimum = 0,
         description = "When the response that the records come from arrived from their source, in microseconds since 1970"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context"),
        ("Prefer" = Option<String>, Header,
         description = "`return=representation`: return partition and offset of each record"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
         description = "A retry with the same key gets the first response and writes nothing"),
    ),
    security((), ("token" = [])),
    responses(
        (status = 200, body = Counts, description = "Every record is in Kafka"),
        (status = 207, body = Counts, description = "Some records are invalid; the others are in Kafka"),
        (status = 422, description = "Every record is invalid, or the idempotency key was used with another body",
         content((Counts = "application/json"), (Document = "application/problem+json"))),
        (status = "4XX", body = Document, content_type = "application/problem+json",
         description = "The request is rejected; nothing was written"),
        (status = "5XX", body = Document, content_type = "application/problem+json",
         description = "502 refused by Kafka, 503 nothing was written, 504 unknown"),
    )
)]
pub(super) async fn create(State(state): State<Arc<AppState>>, request: Request) -> Response<Body> {
    respond(&state, request).await.into_response()
}

/// See [`create`].
pub(super) async fn respond(state: &Arc<AppState>, request: Request) -> Result<PublishResponse, Problem> {
    let (caller, request) = admit(state, Role::Write, request).await?;
    let request = state.receive(&caller, request).await?;
    match request.head.key {
        None => publish_and_wait(state, request).await,
        Some(key) => publish_once(state, key, request).await,
    }
}

impl AppState {
    async fn receive(&self, caller: &Caller, request: Request) -> Result<ReceivedRequest, Problem> {
        let deadline = Instant::now() + self.request_timeout;
        let (head, body) = request.into_parts();
        let parsed = self.examine(&head.headers, caller);
        let version = head.version;
        let mut incoming = IncomingBody::new(&head.headers, body, self.max_body);
        // A caller may send a large head, and its body slowly.
        drop(head);
        let received = match parsed {
            Ok(head) => self
                .read(caller, &mut incoming)
                .await
                .map(|(body, permit)| (head, body, permit)),
            Err(problem) => Err(problem),
        };
        let (head, body, permit) = match received {
            Ok(received) => received,
            Err(problem) => return Err(refuse(version, incoming, problem).await),
        };
        caller.rate_limiter.take_bytes(body.len())?;
        Ok(ReceivedRequest {
            head,
            body,
            permit,
            deadline,
        })
    }

    /// Parses the headers, and rejects a request that can't be processed now. One that may have a cached response needs no
    /// Kafka.
    fn examine(&self, headers: &HeaderMap, caller: &Caller) -> Result<RequestHead, Problem> {
        self.check_not_stopping()?;
        let parsed = RequestHead::parse(headers, caller);
        let is_known = |head: &RequestHead| head.key.is_some_and(|key| self.idempotency.contains(&key));
        if !parsed.as_ref().is_ok_and(is_known) {
            self.check_available()?;
        }
        parsed
    }

    async fn read(
        &self,
        caller: &Caller,
        incoming: &mut IncomingBody,
    ) -> Result<(Bytes, AdmissionPermit), Problem> {
        let mut permit = self.admission.enter_as(&caller.usage);
        let rate = TransferRate::new(Instant::now(), self.body_timeout, self.min_body_rate);
        let body = incoming.read(rate, &mut permit).await?;
        Ok((body, permit))
    }

    fn publish(&self, request: ReceivedRequest) -> Result<Publication, Problem> {
        let head = request.head;
        let publication =
            self.publisher()
                .publish(&request.body, head.format, &head.metadata, request.permit)?;
        Ok(publication)
    }
}

impl RequestHead {
    fn parse(headers: &HeaderMap, caller: &Caller) -> Result<Self, Problem> {
        let content_type = single_header(headers, "content-type")?;
        let key = match single_header(headers, http::IDEMPOTENCY_KEY)? {
            Some(value) => {
                Some(IdempotencyKey::new(&caller.name, value).ok_or_else(Problem::invalid_idempotency_key)?)
            }
            None => None,
        };
        Ok(Self {
            format: content_type
                .and_then(Format::from_content_type)
                .ok_or_else(Problem::unsupported_media_type)?,
            encoding: ContentEncoding::from_headers(headers).ok_or_else(Problem::unsupported_encoding)?,
            metadata: RequestMetadata::from_headers(headers, Timestamp::now())?,
            preference: Preference::from_headers(headers),
            key,
        })
    }
}

impl ReceivedRequest {
    fn fingerprint(&self) -> Fingerprint {
        let kind = format!("{:?} {:?}", self.head.format, self.head.encoding);
        Fingerprint::new(&[kind.as_bytes(), &self.body])
    }
}

/// Publishes the records and waits for their results.
async fn publish_and_wait(
    state: &Arc<AppState>,
    request: ReceivedRequest,
) -> Result<PublishResponse, Problem> {
    let (deadline, preference) = (request.deadline, request.head.preference);
    let publication = decode_and_publish(state, request).await?;
    let result = timeout_at(deadline, publication.result(preference)).await;
    Ok(result.map_err(|_| Problem::unknown(None))?.into())
}

/// Publishes the records unless a request with the same idempotency key did it or is doing it.
async fn publish_once(
    state: &Arc<AppState>,
    key: IdempotencyKey,
    request: ReceivedRequest,
) -> Result<PublishResponse, Problem> {
    let (fingerprint, request) = fingerprint(state, request).await?;
    match state.idempotency.claim(key, fingerprint, Instant::now()) {
        Claim::New(guard) => {
            count(state, "new");
            publish_and_cache(state, guard, request).await
        }
        Claim::InProgress(mut finished) => {
            let deadline = request.deadline;
            // The first request has the same body. This one would only take memory until it has finished.
            drop(request);
            // The channel carries no value: it closes when the first request has finished.
            let closed = timeout_at(deadline, finished.changed()).await;
            drop(closed.map_err(|_| Problem::idempotency_key_in_use())?);
            replay(state, state.idempotency.claim(key, fingerprint, Instant::now()))
        }
        other => replay(state, other),
    }
}

/// The response to a request that is not processed. If the first request failed, this one has to be sent again.
fn replay(state: &AppState, claim: Claim) -> Result<PublishResponse, Problem> {
    match claim {
        Claim::Replay(response) => {
            count(state, "replayed");
            Ok(PublishResponse::Final(response.replayed()))
        }
        Claim::Conflict => {
            count(state, "conflict");
            Err(Problem::idempotency_key_reused())
        }
        Claim::Full => {
            count(state, "full");
            Err(Overloaded.into())
        }
        Claim::New(_) | Claim::InProgress(_) => Err(Problem::idempotency_key_in_use()),
    }
}

fn count(state: &AppState, result: &str) {
    state.metrics.idempotency.with_label_values(&[result]).inc();
}

/// Finishes in a task of its own: a caller that disconnects will retry and has to find the response.
async fn publish_and_cache(
    state: &Arc<AppState>,
    guard: InFlightGuard,
    request: ReceivedRequest,
) -> Result<PublishResponse, Problem> {
    let shared = Arc::clone(state);
    let task = state.detached.spawn(async move {
        let response = publish_and_wait(&shared, request).await;
        if let Ok(PublishResponse::Final(response)) = &response {
            guard.store(response.clone(), Instant::now());
        }
        response
    });
    // After a panic the outcome of the queued records is unknown.
    task.await.unwrap_or_else(|_| Err(Problem::unknown(None)))
}

async fn decode_and_publish(state: &Arc<AppState>, request: ReceivedRequest) -> Result<Publication, Problem> {
    let request = decompress(state, request).await?;
    if request.body.len() <= LARGE_BODY {
        state.check_deadline(request.deadline)?;
        return state.publish(request);
    }
    let permits = state.body_permits(request.body.len());
    let acquired = Arc::clone(&state.large_bodies).acquire_many_owned(permits);
    let permit = in_time(request.deadline, acquired).await?;
    state.check_deadline(request.deadline)?;
    let shared = Arc::clone(state);
    let published = run_blocking(permit, move || shared.publish(request)).await;
    published.unwrap_or_else(|_| Err(Problem::unknown(None)))
}

/// Returns the same request with a decompressed body.
async fn decompress(state: &Arc<AppState>, mut request: ReceivedRequest) -> Result<ReceivedRequest, Problem> {
    if request.head.encoding == ContentEncoding::Identity {
        return Ok(request);
    }
    let permit = in_time(request.deadline, Arc::clone(&state.body_workers).acquire_owned()).await?;
    let limit = state.max_body;
    let decompressed = run_blocking(permit, move || {
        let encoding = request.head.encoding;
        request.body = encoding.decompress(request.body, limit, &mut request.permit)?;
        Ok(request)
    });
    // A panic leaves nothing behind: no record was queued yet.
    decompressed.await.unwrap_or_else(|_| Err(Overloaded.into()))
}

/// Hashes a request, which takes milliseconds for a large body.
async fn fingerprint(
    state: &AppState,
    request: ReceivedRequest,
) -> Result<(Fingerprint, ReceivedRequest), Problem> {
    if request.body.len() <= LARGE_BODY {
        return Ok((request.fingerprint(), request));
    }
    let permit = in_time(request.deadline, Arc::clone(&state.body_workers).acquire_owned()).await?;
    let hashed = run_blocking(permit, move || (request.fingerprint(), request));
    hashed.await.map_err(|_| Overloaded.into())
}

/// Waits for a permit until `deadline`.
async fn in_time(
    deadline: Instant,
    acquired: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
) -> Result<OwnedSemaphorePermit, Overloaded> {
    let permit = timeout_at(deadline, acquired).await.map_err(|_| Overloaded)?;
    Ok(permit.expect("the semaphore is never closed"))
}
