//! The requests and responses of one connection: since when it is idle, and which response its caller does not read.
//!
//! A caller may acknowledge pings and read no response: HTTP/2 flow control then holds the response, and no write is
//! pending.

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// An extension of a response: held until the response is written or its connection is closed.
#[derive(Clone)]
pub struct Hold {
    _value: Arc<dyn Any + Send + Sync>,
}

impl Hold {
    /// Holds `value`.
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Self {
            _value: Arc::new(value),
        }
    }
}

/// How long the caller of a response may take to read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadTimeout {
    /// For a response of any length.
    pub(super) base: Duration,
    /// For each further byte, as bytes a second; zero for no limit.
    pub(super) min_rate: u64,
}

impl ReadTimeout {
    fn of(&self, length: u64) -> Duration {
        let transfer = length.saturating_mul(1_000).checked_div(self.min_rate);
        transfer.map_or(Duration::MAX, |millis| {
            self.base.saturating_add(Duration::from_millis(millis))
        })
    }
}

/// The requests and responses of one connection. Clones share them.
#[derive(Clone)]
pub(super) struct Activity {
    state: Arc<Mutex<ActivityState>>,
}

struct ActivityState {
    in_flight: usize,
    idle_since: Instant,
    next_id: u64,
    unwritten: Vec<Unwritten>,
}

/// A response that is not written completely.
struct Unwritten {
    id: u64,
    since: Instant,
    length: u64,
}

/// A request until its response is written.
pub(super) struct RequestGuard {
    activity: Activity,
    id: Option<u64>,
    _held: Option<Hold>,
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = ActivityState {
            in_flight: 0,
            idle_since: Instant::now(),
            next_id: 0,
            unwritten: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Begins a request.
    pub(super) fn begin(&self) -> RequestGuard {
        self.lock().in_flight += 1;
        RequestGuard {
            activity: self.clone(),
            id: None,
            _held: None,
        }
    }

    /// Whether no request has been in flight since `since`.
    pub(super) fn is_idle_since(&self, since: Instant) -> bool {
        let state = self.lock();
        state.in_flight == 0 && state.idle_since <= since
    }

    /// Whether a response is unwritten after its timeout.
    pub(super) fn has_unread_response(&self, timeout: ReadTimeout) -> bool {
        let unwritten = |response: &Unwritten| response.since.elapsed() > timeout.of(response.length);
        self.lock().unwritten.iter().any(unwritten)
    }

    /// Whether a response has been unwritten for `timeout`, counted from `since` at the earliest.
    pub(super) fn has_response_older_than(&self, timeout: Duration, since: Instant) -> bool {
        let unwritten = |response: &Unwritten| response.since.max(since).elapsed() > timeout;
        self.lock().unwritten.iter().any(unwritten)
    }

    fn lock(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestGuard {
    /// Watches the response of the request until its last byte is written.
    pub(super) fn watch(mut self, mut response: Response<Body>) -> Response<WatchedBody> {
        self._held = response.extensions_mut().remove::<Hold>();
        // A stream of unknown length has no end to wait for. The write timeout applies to each of its parts.
        if let Some(length) = response.body().size_hint().exact()
            && !response.body().is_end_stream()
        {
            self.id = Some(self.activity.lock().add(length));
        }
        let guard = Arc::new(self);
        response.map(|body| WatchedBody { body, guard })
    }

    fn written(&self, state: &mut ActivityState) {
        if let Some(id) = self.id {
            state.unwritten.retain(|response| response.id != id);
        }
    }
}

impl ActivityState {
    fn add(&mut self, length: u64) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.unwritten.push(Unwritten {
            id,
            since: Instant::now(),
            length,
        });
        id
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        self.written(&mut state);
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }
}

/// A response's body. It, and each part of its data, holds the guard of the request.
pub(super) struct WatchedBody {
    body: Body,
    guard: Arc<RequestGuard>,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(polled.map(|frame| {
            frame.map(|frame| {
                let is_last = self.body.size_hint().exact() == Some(0);
                frame.map_data(|bytes| {
                    let guard = Arc::clone(&self.guard);
                    Bytes::from_owner(WatchedBytes {
                        bytes,
                        guard,
                        is_last,
                    })
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that hold the guard of their request until they are dropped: until they are written, or the connection is
/// closed. With the last of them the response is written, even if its stream ends later.
struct WatchedBytes {
    bytes: Bytes,
    guard: Arc<RequestGuard>,
    is_last: bool,
}

impl AsRef<[u8]> for WatchedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for WatchedBytes {
    fn drop(&mut self) {
        if self.is_last {
            self.guard.written(&mut self.guard.activity.lock());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt as _;

    use super::*;

    const TIMEOUT: ReadTimeout = ReadTimeout {
        base: Duration::from_secs(10),
        min_rate: 1_000,
    };

    /// A stream without a part yet, and without a length.
    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    fn response(length: usize) -> Response<Body> {
        Response::new(Body::from(vec![b'x'; length]))
    }

    #[tokio::test(start_paused = true)]
    async fn response_is_unread_after_the_timeout_and_its_length() {
        let activity = Activity::new();
        let watched = activity.begin().watch(response(5_000));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert!(!activity.has_unread_response(TIMEOUT));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(activity.has_unread_response(TIMEOUT));
        let unlimited = ReadTimeout {
            min_rate: 0,
            ..TIMEOUT
        };
        assert!(!activity.has_unread_response(unlimited));
        drop(watched);
        assert!(!activity.has_unread_response(TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn stream_without_a_length_may_last() {
        let activity = Activity::new();
        let watched = activity.begin().watch(Response::new(Body::new(Endless)));
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(!activity.has_unread_response(TIMEOUT));
        assert!(!activity.is_idle_since(Instant::now()));
        drop(watched);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_allows_one_timeout_from_its_start() {
        let activity = Activity::new();
        let _watched = activity.begin().watch(response(1_000_000));
        tokio::time::advance(Duration::from_secs(60)).await;
        let stopping = Instant::now();
        assert!(!activity.has_response_older_than(TIMEOUT.base, stopping));
        tokio::time::advance(Duration::from_millis(10_001)).await;
        assert!(activity.has_response_older_than(TIMEOUT.base, stopping));
    }

    #[tokio::test(start_paused = true)]
    async fn request_is_in_flight_until_its_last_bytes_are_dropped() {
        let activity = Activity::new();
        let opened = Instant::now();
        assert!(activity.is_idle_since(opened));
        let held = Arc::new(());
        let request = activity.begin();
        assert!(!activity.is_idle_since(opened));
        let mut response = response(100);
        response.extensions_mut().insert(Hold::new(Arc::clone(&held)));
        let body = request.watch(response).into_body();
        assert_eq!(body.size_hint().exact(), Some(100));
        let bytes = body.collect().await.unwrap().to_bytes();
        let rest = bytes.slice(99..);
        drop(bytes);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!activity.is_idle_since(Instant::now()));
        assert_eq!(Arc::strong_count(&held), 2);
        drop(rest);
        assert!(activity.is_idle_since(Instant::now()) && !activity.is_idle_since(opened));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn response_is_written_with_its_last_bytes() {
        let activity = Activity::new();
        let mut body = activity.begin().watch(response(100)).into_body();
        let data = body.frame().await.unwrap().unwrap();
        assert_eq!(activity.lock().unwritten.len(), 1);
        drop(data);
        assert!(activity.lock().unwritten.is_empty());
        assert_eq!(activity.lock().in_flight, 1, "the stream has not ended");
        drop(body);
        assert_eq!(activity.lock().in_flight, 0);
    }

    #[tokio::test]
    async fn response_without_body_is_written_with_its_head() {
        let activity = Activity::new();
        let watched = activity.begin().watch(response(0));
        assert!(activity.lock().unwritten.is_empty());
        drop(watched);
        assert_eq!(activity.lock().in_flight, 0);
    }
}
