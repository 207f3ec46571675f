//! Response bodies: a page at once, or as a fault requires. Every wait ends when the server stops.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{error_response::JSON, peer::Peer};
use crate::randomuser::fault::Fault;

/// Bytes per interval of the slow fault.
const SLOW_CHUNK: usize = 64;
/// A chunk of an oversized body.
static BLANKS: [u8; 64 * 1_024] = [b' '; 64 * 1_024];
/// For the first half of a body to be sent before the reset.
const HALF_SENT: Duration = Duration::from_millis(50);

/// Makes the response with a page.
pub(crate) fn respond(page: Bytes, fault: Option<&Fault>, peer: Peer, stop: &CancellationToken) -> Response {
    let content_type = if fault == Some(&Fault::WrongContentType) {
        "text/html; charset=utf-8"
    } else {
        JSON
    };
    let length = page.len();
    let half = page.slice(..length / 2);
    let body = match fault {
        Some(Fault::TruncatedJson) => half.into(),
        Some(Fault::OversizedBody(size)) => oversized(&page, *size),
        Some(Fault::SlowBytes(pause)) => slow(page, *pause, stop.clone()),
        Some(Fault::StallMidBody) => return with_length(length, content_type, stalled(half, stop.clone())),
        Some(Fault::ResetMidBody) => return with_length(length, content_type, reset(half, peer)),
        _ => page.into(),
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// A response whose body may be shorter than its content length.
fn with_length(length: usize, content_type: &str, body: Body) -> Response {
    (
        [
            (header::CONTENT_TYPE, content_type),
            (header::CONTENT_LENGTH, &length.to_string()),
        ],
        body,
    )
        .into_response()
}

/// The page with blanks after its first brace, which JSON allows.
fn oversized(page: &Bytes, size: u64) -> Body {
    let missing = size.saturating_sub(page.len() as u64);
    let blanks = BLANKS.len() as u64;
    let remainder = usize::try_from(missing % blanks).expect("less than the length of an array");
    let full = stream::iter(0..missing / blanks).map(|_| Bytes::from_static(&BLANKS));
    let body = stream::iter([page.slice(..1), Bytes::from_static(&BLANKS[..remainder])])
        .chain(full)
        .chain(stream::iter([page.slice(1..)]));
    Body::from_stream(body.map(Ok::<_, io::Error>))
}

fn slow(page: Bytes, pause: Duration, stop: CancellationToken) -> Body {
    Body::from_stream(stream::unfold((page, stop), move |(mut rest, stop)| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::select! {
            () = stop.cancelled() => return Some((Err(stopped()), (Bytes::new(), stop))),
            () = tokio::time::sleep(pause) => {}
        }
        let chunk = rest.split_to(SLOW_CHUNK.min(rest.len()));
        Some((Ok(chunk), (rest, stop)))
    }))
}

fn stalled(half: Bytes, stop: CancellationToken) -> Body {
    let end = stream::once(async move {
        stop.cancelled().await;
        Err(stopped())
    });
    Body::from_stream(stream::iter([Ok(half)]).chain(end))
}

fn reset(half: Bytes, peer: Peer) -> Body {
    let end = stream::once(async move {
        tokio::time::sleep(HALF_SENT).await;
        peer.reset_at_end();
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    Body::from_stream(stream::iter([Ok(half)]).chain(end))
}

fn stopped() -> io::Error {
    io::Error::other("the server is stopping")
}
