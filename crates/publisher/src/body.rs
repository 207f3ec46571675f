//! Reads a request's body under its limits: size, time, pace and the room that is left. Knows nothing of what is in
//! it.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use thiserror::Error;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout_at};

use crate::admission::{NoRoom, Reservation};
use crate::buffer::Buffer;

/// How long a body that nobody wants is read before the connection is closed over it.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a body may take to get under way before its pace counts.
const RUN_UP: Duration = Duration::from_secs(2);

/// How fast a body has to come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    started: Instant,
    timeout: Duration,
    bytes_per_second: u64,
}

impl Pace {
    /// A body that begins at `started` has to be there within `timeout`, and to bring at least `bytes_per_second` all
    /// along; zero is no demand.
    pub fn new(started: Instant, timeout: Duration, bytes_per_second: u64) -> Self {
        Self {
            started,
            timeout,
            bytes_per_second,
        }
    }

    /// Until when the next bytes may be waited for, `received` being there.
    fn patience(&self, received: usize) -> Instant {
        let earned = (received as u64)
            .saturating_mul(1_000)
            .checked_div(self.bytes_per_second)
            .map(|millis| Duration::from_millis(millis).saturating_add(RUN_UP));
        self.started + earned.map_or(self.timeout, |earned| earned.min(self.timeout))
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Error)]
pub enum BodyError {
    /// It is, or says that it is, above the limit.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// There is no room for it now.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// It broke off or is not framed as HTTP demands.
    #[error("read the body")]
    Broken(#[source] axum::Error),
}

/// A body that has not been read yet.
pub struct Incoming {
    body: Body,
    limit: usize,
    waits_for_continue: bool,
}

impl Incoming {
    /// Takes the body of a request with these headers, of at most `limit` bytes.
    pub fn new(headers: &HeaderMap, body: Body, limit: usize) -> Self {
        Self {
            body,
            limit,
            waits_for_continue: headers.contains_key(header::EXPECT),
        }
    }

    /// Reads it to its end. Room is taken as bytes arrive.
    ///
    /// # Errors
    /// Each [`BodyError`].
    pub async fn read(&mut self, pace: Pace, reservation: &mut Reservation) -> Result<Bytes, BodyError> {
        let announced = self.body.size_hint();
        let at_least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
        if at_least > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        reservation.would_fit(at_least)?;
        let expected = announced.exact().map_or(self.limit, |_| at_least);
        let mut buffer = Buffer::new(expected);
        while let Some(chunk) = self
            .next_chunk_until(pace.patience(buffer.len()))
            .await
            .ok_or(BodyError::TooSlow)??
        {
            if buffer.len() + chunk.len() > self.limit {
                return Err(BodyError::TooLarge { limit: self.limit });
            }
            buffer.push(chunk, reservation)?;
        }
        Ok(buffer.whole(reservation))
    }

    /// None: it was not there in time. The connection is read in the same task, and who floods it with bytes that are no
    /// body (zeros before a chunk's size) uses up what Tokio lets a task do in one go, each time before a timer has its
    /// turn: so the timer does not ask for leave.
    async fn next_chunk_until(&mut self, until: Instant) -> Option<Result<Option<Bytes>, BodyError>> {
        unconstrained(timeout_at(until, self.next_chunk())).await.ok()
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads a body that is refused anyway, within bounds: a caller that is still writing would see its connection
    /// break instead of the answer.
    pub async fn discard(mut self) {
        let mut rest = self.limit.saturating_mul(2);
        if self.waits_for_continue {
            return;
        }
        let until = Instant::now() + DISCARD_TIMEOUT;
        // Whether it ends by itself or runs out of time makes no difference to what is answered.
        while let Some(Ok(Some(chunk))) = self.next_chunk_until(until).await {
            rest = rest.saturating_sub(chunk.len());
            if rest == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use futures::stream;
    use service::Metrics;

    use super::*;
    use crate::admission::Admission;
    use crate::metrics::PublisherMetrics;
    use crate::settings::LimitSettings;

    fn reservation(max_in_flight_bytes: u64) -> Reservation {
        let limits = LimitSettings {
            max_in_flight_bytes: ByteSize(max_in_flight_bytes),
            ..LimitSettings::default()
        };
        Admission::new(&limits, &PublisherMetrics::new(&Metrics::new("test"))).enter()
    }

    fn chunks(parts: &[&'static str]) -> Body {
        let parts: Vec<Result<_, std::io::Error>> = parts.iter().map(|part| Ok(*part)).collect();
        Body::from_stream(stream::iter(parts))
    }

    async fn read(body: Body, limit: usize, room: u64) -> Result<Bytes, BodyError> {
        let pace = Pace::new(Instant::now(), Duration::from_secs(5), 10);
        Incoming::new(&HeaderMap::new(), body, limit)
            .read(pace, &mut reservation(room))
            .await
    }

    #[tokio::test]
    async fn a_body_arrives_whole_in_one_piece_or_in_many() {
        assert_eq!(read(Body::from("abc"), 3, 3).await.unwrap(), "abc");
        assert_eq!(read(chunks(&["ab", "", "c", "de"]), 5, 5).await.unwrap(), "abcde");
        assert!(read(Body::empty(), 0, 0).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_byte_too_many_is_too_large_announced_or_not() {
        let announced = read(Body::from("abcd"), 3, 9).await;
        assert!(matches!(announced, Err(BodyError::TooLarge { limit: 3 })));
        let streamed = read(chunks(&["ab", "cd"]), 3, 9).await;
        assert!(matches!(streamed, Err(BodyError::TooLarge { limit: 3 })));
    }

    #[tokio::test]
    async fn a_body_without_room_is_refused() {
        for body in [Body::from("abcd"), chunks(&["ab", "cd"])] {
            assert!(matches!(read(body, 9, 3).await, Err(BodyError::NoRoom(_))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_runs_out_of_time() {
        let endless = stream::pending::<Result<Bytes, std::io::Error>>();
        let outcome = read(Body::from_stream(endless), 9, 9).await;
        assert!(matches!(outcome, Err(BodyError::TooSlow)));
    }

    /// One byte each `gap`.
    fn drip(bytes: usize, gap: Duration) -> Body {
        let drops = stream::unfold(0, move |sent| async move {
            if sent == bytes {
                return None;
            }
            tokio::time::sleep(gap).await;
            Some((Ok::<_, std::io::Error>("x"), sent + 1))
        });
        Body::from_stream(drops)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_and_one_that_keeps_the_pace_is_not() {
        let started = Instant::now();
        let slow = read(drip(20, Duration::from_millis(500)), 99, 99).await;
        assert!(matches!(slow, Err(BodyError::TooSlow)));
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
        let steady = read(drip(40, Duration::from_millis(90)), 99, 99).await;
        assert_eq!(steady.unwrap().len(), 40);
        let late = read(drip(90, Duration::from_millis(90)), 99, 99).await;
        assert!(matches!(late, Err(BodyError::TooSlow)), "5 s are over");
    }
}
