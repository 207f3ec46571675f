//! Proxy between the ingester and the real publisher that records the idempotency key of each record. Forwards requests
//! and responses unchanged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;

use crate::support::serve;
use crate::support::stub_publisher::{decoded, problem};

struct ProxyState {
    client: reqwest::Client,
    target: String,
    /// Sequence number → key and records.
    sent_batches: Mutex<BTreeMap<u64, (String, Value)>>,
    requests: Mutex<u64>,
}

pub(crate) struct RecordingProxy {
    address: SocketAddr,
    state: Arc<ProxyState>,
}

impl RecordingProxy {
    pub(crate) async fn start(publisher: &str) -> Self {
        let state = Arc::new(ProxyState {
            client: reqwest::Client::new(),
            target: format!("{publisher}/v1/users"),
            sent_batches: Mutex::default(),
            requests: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/users", post(forward))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&state));
        let address = serve(router).await;
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of requests.
    pub(crate) fn requests(&self) -> u64 {
        *self.state.requests.lock().unwrap()
    }

    /// Asserts that each record was sent in one batch with one sequence number and one key that contains `run`.
    pub(crate) fn assert_one_key_per_record(&self, run: &str) {
        let sent_batches = self.state.sent_batches.lock().unwrap();
        let mut next = 0;
        for (first, (key, records)) in sent_batches.iter() {
            let records = records.as_array().unwrap().len() as u64;
            assert_eq!(*first, next, "batches have no gaps and no overlaps");
            assert_eq!(*key, format!("{run}/{first}+{records}"));
            next = first + records;
        }
    }
}

async fn forward(State(state): State<Arc<ProxyState>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let records = decoded(text("content-encoding").as_deref(), &body);
    let records: Value = serde_json::from_slice(&records).unwrap();
    let first = text("run-seq").unwrap().parse().unwrap();
    let batch = (text("idempotency-key").unwrap(), records);
    *state.requests.lock().unwrap() += 1;
    let known = state
        .sent_batches
        .lock()
        .unwrap()
        .entry(first)
        .or_insert_with(|| batch.clone())
        .clone();
    if known != batch {
        // A permanent error for the ingester, which fails the test.
        return problem(409, "other records or another key for this sequence number");
    }
    let mut headers = headers;
    headers.remove("host");
    let sent = state
        .client
        .post(&state.target)
        .headers(headers)
        .body(body)
        .send()
        .await;
    match sent {
        Ok(response) => {
            let (status, headers) = (response.status(), response.headers().clone());
            (status, headers, response.bytes().await.unwrap_or_default()).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
