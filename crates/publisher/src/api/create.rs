//! `POST /v1/users`: records come in, and the answer says what became of each.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use jiff::Timestamp;
use model::headers::http;
use tokio::time::{Instant, timeout_at};

use super::Door;
use super::admit::admit;
use crate::admission::{NoRoom, Reservation};
use crate::answer::Answer;
use crate::body::{Incoming, Pace};
use crate::callers::Caller;
use crate::coding::Coding;
use crate::memory::{Claim, Fingerprint, Key, Turn};
use crate::origin::{self, Origin};
use crate::preference::Preference;
use crate::problem::{Document, Problem};
use crate::publication::Publication;
use crate::records::Format;
use crate::unread;
use crate::verdict::Counts;

/// Bodies above this size, in bytes, take milliseconds to parse; they leave the threads that serve connections.
/// So do compressed ones to be decoded, of which nobody knows how large they become.
const LARGE_BODY: usize = 128 * 1024;

/// What the headers say of a request.
struct Description {
    format: Format,
    coding: Coding,
    origin: Origin,
    preference: Preference,
    key: Option<Key>,
}

/// A request whose body is here.
struct Taken {
    description: Description,
    body: Bytes,
    reservation: Reservation,
    deadline: Instant,
}

/// Writes users.
///
/// The answer comes after Kafka has acknowledged every valid record.
#[utoipa::path(
    post,
    path = "/v1/users",
    request_body(
        description = "One user, an array of them, or one on each line; gzip and zstd are understood",
        content(
            (crate::api::documents::Users = "application/json"),
            (String = "application/x-ndjson"),
        )
    ),
    params(
        ("Run-Id" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
         description = "The run that the records come from"),
        ("Run-Seq" = Option<i64>, Header, minimum = 0, description = "The number of the first record within the run"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context"),
        ("Prefer" = Option<String>, Header, description = "`return=representation`: partition and offset of each record"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
         description = "A repeat hears the first answer and writes nothing"),
    ),
    security((), ("token" = [])),
    responses(
        (status = 200, body = Counts, description = "Every record is in Kafka"),
        (status = 207, body = Counts, description = "Some records are invalid; the others are in Kafka"),
        (status = 422, description = "Every record is invalid, or the idempotency key was used for something else",
         content((Counts = "application/json"), (Document = "application/problem+json"))),
        (status = "4XX", body = Document, content_type = "application/problem+json",
         description = "The request can't be taken; nothing was written"),
        (status = "5XX", body = Document, content_type = "application/problem+json",
         description = "502 refused by Kafka, 503 nothing was written, 504 unknown"),
    )
)]
pub(super) async fn create(State(door): State<Arc<Door>>, request: Request) -> Response<Body> {
    let answer = answered(&door, request).await;
    unread::hold(answer.into_response(), &door.admission)
}

async fn answered(door: &Arc<Door>, mut request: Request) -> Result<Answer, Problem> {
    let caller = admit(door, &mut request).await?;
    let taken = door.take(&caller, request).await?;
    match taken.description.key {
        None => fulfil(door, taken).await,
        Some(key) => once(door, key, taken).await,
    }
}

impl Door {
    async fn take(&self, caller: &Caller, request: Request) -> Result<Taken, Problem> {
        let deadline = Instant::now() + self.request_timeout;
        let (head, body) = request.into_parts();
        let described = self.open().and_then(|()| Description::of(&head.headers, caller));
        let mut incoming = Incoming::new(&head.headers, body, self.max_body);
        let read = match described {
            Ok(description) => self
                .read(&mut incoming)
                .await
                .map(|(body, reservation)| (description, body, reservation)),
            Err(problem) => Err(problem),
        };
        let (description, body, reservation) = match read {
            Ok(read) => read,
            Err(problem) => {
                incoming.discard().await;
                return Err(problem);
            }
        };
        caller.budget.take_bytes(body.len())?;
        Ok(Taken {
            description,
            body,
            reservation,
            deadline,
        })
    }

    async fn read(&self, incoming: &mut Incoming) -> Result<(Bytes, Reservation), Problem> {
        let mut reservation = self.admission.enter();
        let pace = Pace::new(Instant::now(), self.body_timeout, self.min_body_rate);
        let body = incoming.read(pace, &mut reservation).await?;
        Ok((body, reservation))
    }
}

impl Description {
    fn of(headers: &HeaderMap, caller: &Caller) -> Result<Self, Problem> {
        let content_type = origin::only(headers, "content-type")?;
        let key = match origin::only(headers, http::IDEMPOTENCY_KEY)? {
            Some(given) => Some(Key::new(&caller.name, given).ok_or_else(Problem::bad_key)?),
            None => None,
        };
        Ok(Self {
            format: content_type
                .and_then(Format::of)
                .ok_or_else(Problem::unsupported_type)?,
            coding: Coding::of(headers).ok_or_else(Problem::unsupported_coding)?,
            origin: Origin::of(headers, Timestamp::now())?,
            preference: Preference::of(headers),
            key,
        })
    }
}

impl Taken {
    fn fingerprint(&self) -> Fingerprint {
        let kind = format!("{:?} {:?}", self.description.format, self.description.coding);
        Fingerprint::new(&[kind.as_bytes(), &self.body])
    }
}

/// Sends the records and waits for what became of them.
async fn fulfil(door: &Arc<Door>, taken: Taken) -> Result<Answer, Problem> {
    let (deadline, preference) = (taken.deadline, taken.description.preference);
    let publication = publish(door, taken).await?;
    let settled = timeout_at(deadline, publication.settled(preference)).await;
    Ok(settled.map_err(|_| Problem::unknown(None))?.into())
}

/// The same, unless it was done before or is being done.
async fn once(door: &Arc<Door>, key: Key, taken: Taken) -> Result<Answer, Problem> {
    let fingerprint = taken.fingerprint();
    let count = |result| door.metrics.idempotency.with_label_values(&[result]).inc();
    loop {
        match door.memory.claim(key, fingerprint, Instant::now()) {
            Claim::First(turn) => {
                count("first");
                return remembered(door, turn, taken).await;
            }
            Claim::Told(told) => {
                count("repeated");
                return Ok(Answer::Told(told.again()));
            }
            Claim::Reused => {
                count("reused");
                return Err(Problem::key_reused());
            }
            Claim::Full => {
                count("full");
                return Err(NoRoom.into());
            }
            Claim::Busy(mut done) => {
                // The channel carries nothing: its end is the news.
                let ended = timeout_at(taken.deadline, done.changed()).await;
                drop(ended.map_err(|_| Problem::key_in_use())?);
            }
        }
    }
}

/// A caller who loses patience will repeat the request, so that the answer must be there then.
async fn remembered(door: &Arc<Door>, turn: Turn, taken: Taken) -> Result<Answer, Problem> {
    let shared = Arc::clone(door);
    let work = door.remembered.spawn(async move {
        let answer = fulfil(&shared, taken).await;
        if let Ok(Answer::Told(told)) = &answer {
            turn.remember(told.clone(), Instant::now());
        }
        answer
    });
    // A panic on the way leaves records behind of which nobody can say.
    work.await.unwrap_or_else(|_| Err(Problem::unknown(None)))
}

async fn publish(door: &Arc<Door>, taken: Taken) -> Result<Publication, Problem> {
    let taken = plain(door, taken).await?;
    if taken.body.len() <= LARGE_BODY {
        door.still_time(taken.deadline)?;
        return door.send(taken);
    }
    let weight = door.weight(taken.body.len());
    let _turn = timeout_at(taken.deadline, door.large_bodies.acquire_many(weight))
        .await
        .map_err(|_| NoRoom)?;
    door.still_time(taken.deadline)?;
    let shared = Arc::clone(door);
    let sent = tokio::task::spawn_blocking(move || shared.send(taken)).await;
    sent.unwrap_or_else(|_| Err(Problem::unknown(None)))
}

/// The same request, its body decoded.
async fn plain(door: &Arc<Door>, mut taken: Taken) -> Result<Taken, Problem> {
    if taken.description.coding == Coding::Identity {
        return Ok(taken);
    }
    let _turn = timeout_at(taken.deadline, door.decoders.acquire())
        .await
        .map_err(|_| NoRoom)?;
    let limit = door.max_body;
    let decoding = tokio::task::spawn_blocking(move || {
        let coding = taken.description.coding;
        taken.body = coding.decode(taken.body, limit, &mut taken.reservation)?;
        Ok(taken)
    });
    // Nothing was queued yet, whatever has happened there.
    decoding.await.unwrap_or_else(|_| Err(NoRoom.into()))
}

impl Door {
    fn send(&self, taken: Taken) -> Result<Publication, Problem> {
        let description = taken.description;
        Ok(self.publisher().publish(
            &taken.body,
            description.format,
            &description.origin,
            taken.reservation,
        )?)
    }
}
