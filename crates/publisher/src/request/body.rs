//! Reads the body of a request within its limits: size, timeout, transfer rate and admission.
//!
//! Does not look at the content.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use thiserror::Error;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::limits::admission::{AdmissionPermit, Overloaded};
use crate::limits::buffer::Buffer;

/// How long a rejected body is read before the connection is closed.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The time after the start of a body in which its transfer rate is not checked.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// The timeout and the minimum transfer rate of a body.
#[derive(Clone, Copy, Debug)]
pub struct TransferRate {
    started: Instant,
    timeout: Duration,
    bytes_per_second: u64,
}

impl TransferRate {
    /// For a body that begins at `started`. Zero `bytes_per_second` disables the minimum rate.
    pub fn new(started: Instant, timeout: Duration, bytes_per_second: u64) -> Self {
        Self {
            started,
            timeout,
            bytes_per_second,
        }
    }

    /// The deadline of the next chunk after `received` bytes.
    fn deadline(&self, received: usize) -> Instant {
        let earned = (received as u64)
            .saturating_mul(1_000)
            .checked_div(self.bytes_per_second)
            .map(|millis| Duration::from_millis(millis).saturating_add(GRACE_PERIOD));
        self.started + earned.map_or(self.timeout, |earned| earned.min(self.timeout))
    }
}

/// Why a body was not read completely.
#[derive(Debug, Error)]
pub enum BodyError {
    /// Its size or its announced size exceeds the limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It does not fit into the bytes in flight.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// It timed out or its transfer rate is below the minimum.
    #[error("the body timed out or arrived below the minimum rate")]
    TooSlow,
    /// The connection failed or its HTTP framing is invalid.
    #[error("failed to read the body")]
    Read(#[source] axum::Error),
}

/// A body that has not been read yet.
#[derive(Debug)]
pub struct IncomingBody {
    body: Body,
    limit: usize,
    /// The caller sends its body only after `100 Continue`, which reading the body sends.
    awaits_continue: bool,
}

impl IncomingBody {
    /// The body of a request with these headers, of at most `limit` bytes.
    pub fn new(headers: &HeaderMap, body: Body, limit: usize) -> Self {
        Self {
            body,
            limit,
            awaits_continue: headers.contains_key(header::EXPECT),
        }
    }

    /// Whether the body has arrived completely.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Reads the whole body and acquires its bytes as they arrive.
    ///
    /// # Errors
    /// Each [`BodyError`].
    pub async fn read(
        &mut self,
        rate: TransferRate,
        permit: &mut AdmissionPermit,
    ) -> Result<Bytes, BodyError> {
        let announced = self.body.size_hint();
        let at_least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
        if at_least > self.limit {
            return Err(BodyError::TooLarge { limit: self.limit });
        }
        permit.check_bytes(at_least)?;
        self.awaits_continue = false;
        let expected = announced.exact().map_or(self.limit, |_| at_least);
        let mut buffer = Buffer::new(expected);
        while let Some(chunk) = self
            .next_chunk_until(rate.deadline(buffer.len()))
            .await
            .ok_or(BodyError::TooSlow)??
        {
            if buffer.len() + chunk.len() > self.limit {
                return Err(BodyError::TooLarge { limit: self.limit });
            }
            buffer.push(chunk, permit)?;
        }
        Ok(buffer.finish(permit))
    }

    /// Returns none after the deadline. The timer is outside Tokio's task budget: the same task reads the connection,
    /// and a flood of bytes without body (zeros before the size of a chunk) would use up the budget before the timer
    /// is polled.
    async fn next_chunk_until(&mut self, until: Instant) -> Option<Result<Option<Bytes>, BodyError>> {
        unconstrained(timeout_at(until, self.next_chunk())).await.ok()
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(BodyError::Read)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads and drops a part of a rejected body. Otherwise an HTTP/1 caller that is still writing would see a reset
    /// connection instead of the response.
    pub async fn discard(mut self) {
        let mut rest = self.limit.saturating_mul(2);
        if self.awaits_continue {
            return;
        }
        let until = Instant::now() + DISCARD_TIMEOUT;
        // The response is the same whether the body ends or times out.
        while let Some(Ok(Some(chunk))) = self.next_chunk_until(until).await {
            rest = rest.saturating_sub(chunk.len());
            if rest == 0 {
                return;
            }
        }
    }
}

/// The body of an HTTP/2 response to a rejected request. After its data it reads and drops the rest of the request's
/// body, for a limited time, and only then ends the stream. A stream that ends earlier is reset, and many callers that are
/// still writing then lose the response.
#[derive(Debug)]
pub(crate) struct RefusalBody {
    data: Option<Bytes>,
    rejected: Body,
    timeout: Pin<Box<Sleep>>,
}

impl RefusalBody {
    /// The response `data` to a request with the body `rejected`.
    pub(crate) fn new(data: Bytes, rejected: IncomingBody) -> Self {
        Self {
            data: Some(data),
            rejected: rejected.body,
            timeout: Box::pin(sleep(DISCARD_TIMEOUT)),
        }
    }
}

impl HttpBody for RefusalBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        // The response is the same whether the body ends or times out.
        while self.timeout.as_mut().poll(context).is_pending() {
            if !matches!(
                ready!(Pin::new(&mut self.rejected).poll_frame(context)),
                Some(Ok(_))
            ) {
                break;
            }
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use futures::stream;
    use service::Metrics;

    use super::*;
    use crate::config::LimitSettings;
    use crate::limits::admission::Admission;
    use crate::metrics::PublisherMetrics;

    fn permit(max_in_flight_bytes: u64) -> AdmissionPermit {
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

    async fn read(body: Body, limit: usize, max_in_flight: u64) -> Result<Bytes, BodyError> {
        let rate = TransferRate::new(Instant::now(), Duration::from_secs(5), 10);
        IncomingBody::new(&HeaderMap::new(), body, limit)
            .read(rate, &mut permit(max_in_flight))
            .await
    }

    #[tokio::test]
    async fn body_is_read_from_one_chunk_or_many() {
        assert_eq!(read(Body::from("abc"), 3, 3).await.unwrap(), "abc");
        assert_eq!(read(chunks(&["ab", "", "c", "de"]), 5, 5).await.unwrap(), "abcde");
        assert!(read(Body::empty(), 0, 0).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_byte_above_the_limit_is_too_large() {
        let announced = read(Body::from("abcd"), 3, 9).await;
        assert!(matches!(announced, Err(BodyError::TooLarge { limit: 3 })));
        let streamed = read(chunks(&["ab", "cd"]), 3, 9).await;
        assert!(matches!(streamed, Err(BodyError::TooLarge { limit: 3 })));
    }

    #[tokio::test]
    async fn body_above_the_bytes_in_flight_is_rejected() {
        for body in [Body::from("abcd"), chunks(&["ab", "cd"])] {
            assert!(matches!(read(body, 9, 3).await, Err(BodyError::Overloaded(_))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusal_ends_after_its_rejected_body_or_the_timeout() {
        let refusal = |rejected: Body| {
            let rejected = IncomingBody::new(&HeaderMap::new(), rejected, 1);
            RefusalBody::new("no".into(), rejected)
        };
        let started = Instant::now();
        let mut ended = refusal(chunks(&["abc", "def"]));
        assert_eq!(ended.size_hint().exact(), Some(2));
        assert_eq!(ended.frame().await.unwrap().unwrap().into_data().unwrap(), "no");
        assert_eq!(ended.size_hint().exact(), Some(0));
        assert!(ended.frame().await.is_none());
        assert_eq!(started.elapsed(), Duration::ZERO);
        let mut endless = refusal(drip(1_000, Duration::from_millis(100)));
        assert!(endless.frame().await.is_some() && endless.frame().await.is_none());
        assert!(started.elapsed() >= DISCARD_TIMEOUT && started.elapsed() < DISCARD_TIMEOUT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn missing_body_times_out() {
        let endless = stream::pending::<Result<Bytes, std::io::Error>>();
        let outcome = read(Body::from_stream(endless), 9, 9).await;
        assert!(matches!(outcome, Err(BodyError::TooSlow)));
    }

    /// Sends one byte each `interval`.
    fn drip(bytes: usize, interval: Duration) -> Body {
        let drops = stream::unfold(0, move |sent| async move {
            if sent == bytes {
                return None;
            }
            tokio::time::sleep(interval).await;
            Some((Ok::<_, std::io::Error>("x"), sent + 1))
        });
        Body::from_stream(drops)
    }

    #[tokio::test(start_paused = true)]
    async fn body_below_the_minimum_rate_is_rejected() {
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
        assert!(
            matches!(late, Err(BodyError::TooSlow)),
            "after the timeout of 5 s"
        );
    }
}
