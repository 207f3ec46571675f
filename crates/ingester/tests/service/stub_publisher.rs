//! A publisher that does as told: accepts every record, or answers, on a word, as the real one does in rare moments or
//! never. It notes what it was sent, and is a stand-in for the HTTP contract alone. What the real one can be made to do
//! stands in `real_answers`, `outages` and `kills`.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One answer. Without any it accepts.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A status, a `Retry-After` and a body.
    Says(u16, Option<&'static str>, Value),
    /// 207: the first record is refused, the others are accepted.
    RefusesTheFirst,
    /// 422: all are refused.
    RefusesAll,
    /// 413 for this request if it carries more records than this; else it accepts.
    TakesAtMost(usize),
    /// The connection ends without an answer.
    BreaksOff,
    /// Nothing, for ever.
    Hangs,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) run: String,
    pub(crate) first: u64,
    pub(crate) token: Option<String>,
    pub(crate) content_type: String,
    pub(crate) coding: Option<String>,
    /// As sent.
    pub(crate) bytes: usize,
    /// The connection's other end.
    pub(crate) peer: SocketAddr,
    pub(crate) records: Vec<Value>,
    /// Whether every record was accepted.
    pub(crate) accepted: bool,
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Answer>>,
    parcels: Mutex<Vec<Parcel>>,
}

pub(crate) struct Door {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Door {
    pub(crate) async fn open() -> Self {
        let shared = Arc::<Shared>::default();
        let router = Router::new()
            .route("/v1/users", post(take))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.lock().unwrap().extend(answers);
    }

    pub(crate) fn parcels(&self) -> Vec<Parcel> {
        self.shared.parcels.lock().unwrap().clone()
    }

    /// The records of the requests that were accepted, in order.
    pub(crate) fn accepted(&self) -> Vec<Value> {
        let accepted = self.parcels().into_iter().filter(|parcel| parcel.accepted);
        accepted.flat_map(|parcel| parcel.records).collect()
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let answer = shared.script.lock().unwrap().pop_front();
    let coding = text("content-encoding");
    let bytes = body.len();
    let records: Vec<Value> = serde_json::from_slice(&decoded(coding.as_deref(), &body)).unwrap();
    let sent = records.len();
    let accepted = match answer {
        None => true,
        Some(Answer::TakesAtMost(most)) => sent <= most,
        Some(_) => false,
    };
    shared.parcels.lock().unwrap().push(Parcel {
        run: text("run-id").unwrap(),
        first: text("run-seq").unwrap().parse().unwrap(),
        token: text("authorization"),
        content_type: text("content-type").unwrap(),
        coding,
        bytes,
        peer,
        records,
        accepted,
    });
    match answer {
        _ if accepted => says(200, &json!({"accepted": sent, "rejected": 0})),
        Some(Answer::Says(status, retry_after, body)) => {
            let mut response = says(status, &body);
            if let Some(wait) = retry_after {
                response
                    .headers_mut()
                    .insert("retry-after", wait.parse().unwrap());
            }
            response
        }
        Some(Answer::RefusesTheFirst) => says(207, &refusing(1, sent)),
        Some(Answer::RefusesAll) => says(422, &refusing(sent, sent)),
        Some(Answer::BreaksOff) => panic!("the script says so: a panic ends the connection"),
        Some(Answer::Hangs) => std::future::pending().await,
        _ => says(413, &json!({"title": "too large"})),
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
        Some(other) => panic!("the publisher understands no {other}"),
    }
    plain
}

fn refusing(refused: usize, sent: usize) -> Value {
    let error =
        |index| json!({"index": index, "id": null, "field": "phone", "reason": "is not to our liking"});
    let errors: Vec<_> = (0..refused).map(error).collect();
    json!({"accepted": sent - refused, "rejected": refused, "errors": errors})
}

fn says(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}
