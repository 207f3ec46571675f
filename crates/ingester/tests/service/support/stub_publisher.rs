//! Stub of the publisher's HTTP contract: accepts every record, or sends scripted responses. Records each request. Tests
//! with the real publisher are in `real_publisher`, `outages` and `kill_recovery`.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::support::serve;

/// A scripted response. Without one, the stub accepts every record.
#[derive(Clone, Debug)]
pub(crate) enum StubResponse {
    /// A status, a `Retry-After` and a JSON body.
    Status(u16, Option<&'static str>, Value),
    /// A problem document of the publisher.
    Problem(u16, &'static str),
    /// A gateway's error page.
    Gateway(u16),
    /// 207: the first record is rejected, the others are accepted.
    RejectFirst,
    /// 422: every record is rejected.
    RejectAll,
    /// 413 if the request has more records than this; otherwise they are accepted.
    TooLargeAbove(usize),
    /// The connection is closed without a response.
    Disconnect,
    /// No response.
    Hang,
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) run: String,
    pub(crate) first: u64,
    /// Microseconds since 1970.
    pub(crate) fetched_at_us: i64,
    pub(crate) token: Option<String>,
    pub(crate) content_type: String,
    pub(crate) coding: Option<String>,
    /// Size of the body as sent.
    pub(crate) bytes: usize,
    /// Client address of the connection.
    pub(crate) peer: SocketAddr,
    pub(crate) records: Vec<Value>,
    /// Whether every record was accepted.
    pub(crate) accepted: bool,
}

#[derive(Default)]
struct PublisherStubState {
    script: Mutex<VecDeque<StubResponse>>,
    requests: Mutex<Vec<ReceivedRequest>>,
}

pub(crate) struct StubPublisher {
    address: SocketAddr,
    state: Arc<PublisherStubState>,
}

impl StubPublisher {
    pub(crate) async fn start() -> Self {
        let state = Arc::<PublisherStubState>::default();
        let router = Router::new()
            .route("/v1/users", post(handle))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&state));
        let address = serve(router).await;
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn respond_with(&self, responses: impl IntoIterator<Item = StubResponse>) {
        self.state.script.lock().unwrap().extend(responses);
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Returns the records of accepted requests, in order.
    pub(crate) fn accepted_records(&self) -> Vec<Value> {
        let accepted = self.requests().into_iter().filter(|request| request.accepted);
        accepted.flat_map(|request| request.records).collect()
    }
}

async fn handle(
    State(state): State<Arc<PublisherStubState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let response = state.script.lock().unwrap().pop_front();
    let coding = text("content-encoding");
    let bytes = body.len();
    let records: Vec<Value> = serde_json::from_slice(&decoded(coding.as_deref(), &body)).unwrap();
    let sent = records.len();
    let accepted = match response {
        None => true,
        Some(StubResponse::TooLargeAbove(max)) => sent <= max,
        Some(_) => false,
    };
    state.requests.lock().unwrap().push(ReceivedRequest {
        run: text("run-id").unwrap(),
        first: text("run-seq").unwrap().parse().unwrap(),
        fetched_at_us: text("fetched-at-us").unwrap().parse().unwrap(),
        token: text("authorization"),
        content_type: text("content-type").unwrap(),
        coding,
        bytes,
        peer,
        records,
        accepted,
    });
    match response {
        _ if accepted => respond(200, &json!({"accepted": sent, "rejected": 0})),
        Some(StubResponse::Status(status, retry_after, body)) => {
            let mut response = respond(status, &body);
            if let Some(wait) = retry_after {
                response
                    .headers_mut()
                    .insert("retry-after", wait.parse().unwrap());
            }
            response
        }
        Some(StubResponse::Problem(status, title)) => problem(status, title),
        Some(StubResponse::Gateway(status)) => {
            let html = [(header::CONTENT_TYPE, "text/html")];
            let status = StatusCode::from_u16(status).unwrap();
            (status, html, format!("<html>{status}</html>")).into_response()
        }
        Some(StubResponse::RejectFirst) => respond(207, &rejecting(1, sent)),
        Some(StubResponse::RejectAll) => respond(422, &rejecting(sent, sent)),
        Some(StubResponse::Disconnect) => panic!("scripted: a panic closes the connection"),
        Some(StubResponse::Hang) => std::future::pending().await,
        _ => problem(413, "too large"),
    }
}

pub(crate) fn decoded(coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        None => plain.extend_from_slice(body),
        Some("gzip") => drop(
            flate2::read::GzDecoder::new(body)
                .read_to_end(&mut plain)
                .unwrap(),
        ),
        Some("zstd") => plain = zstd::decode_all(body).unwrap(),
        Some(other) => panic!("the publisher does not support {other}"),
    }
    plain
}

fn rejecting(rejected: usize, sent: usize) -> Value {
    let error = |index| json!({"index": index, "id": null, "field": "phone", "reason": "is not allowed"});
    let errors: Vec<_> = (0..rejected).map(error).collect();
    json!({"accepted": sent - rejected, "rejected": rejected, "errors": errors})
}

pub(crate) fn problem(status: u16, title: &str) -> Response {
    let body = json!({"type": "urn:affluent:problem:scripted", "title": title, "status": status});
    let media_type = [(header::CONTENT_TYPE, "application/problem+json")];
    (
        StatusCode::from_u16(status).unwrap(),
        media_type,
        body.to_string(),
    )
        .into_response()
}

fn respond(status: u16, body: &Value) -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    (
        StatusCode::from_u16(status).unwrap(),
        media_type,
        body.to_string(),
    )
        .into_response()
}
