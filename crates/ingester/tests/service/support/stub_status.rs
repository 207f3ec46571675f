//! Stub of another service's admin port: `GET /status` returns a document that a test can replace.

use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::support::serve;

pub(crate) struct StubStatus {
    pub(crate) url: String,
    document: Arc<Mutex<Value>>,
}

impl StubStatus {
    pub(crate) async fn start(document: Value) -> Self {
        let document = Arc::new(Mutex::new(document));
        let shared = Arc::clone(&document);
        let respond = move || {
            let document = shared.lock().unwrap().clone();
            async move { Json(document) }
        };
        let router = Router::new().route("/status", get(respond));
        let url = format!("http://{}", serve(router).await);
        Self { url, document }
    }

    pub(crate) fn set(&self, document: Value) {
        *self.document.lock().unwrap() = document;
    }
}

/// The document of a publisher that is ready.
pub(crate) fn publisher() -> Value {
    json!({
        "service": "publisher", "version": "0.2.0", "uptime_seconds": 60, "ready": true, "stopping": false,
        "dependencies": [{"name": "kafka", "ready": true}],
        "rates": {"records_per_second": 12.5, "requests_per_second": 1.0},
        "queue": {"records": 0}, "acknowledgement": {"p50_ms": 1.5, "p99_ms": 4.0},
    })
}

/// The document of a streamer, and why Cassandra is not ready.
pub(crate) fn streamer(cassandra_outage: Option<&str>) -> Value {
    let newest = (0..10).map(|number| {
        json!({"partition": number % 3, "offset": 183_400 + number, "reason": "malformed", "at": "2026-11-28T03:51:00Z"})
    });
    json!({
        "service": "streamer", "version": "0.2.0", "uptime_seconds": 60, "ready": cassandra_outage.is_none(),
        "stopping": false,
        "dependencies": [
            {"name": "kafka", "ready": true},
            {"name": "cassandra", "ready": cassandra_outage.is_none(), "reason": cassandra_outage},
        ],
        "rates": {"records_per_second": 11.0, "rows_per_second": 10.0},
        "lag": {"total": 48_213, "partitions": [
            {"partition": 0, "lag": 48_213, "halted": null},
            {"partition": 1, "lag": 0, "halted": "9 consecutive dead letters: fix the cause, then run `streamer dead-letters reset-limits`"},
        ]},
        "end_to_end": {"p50_ms": 12.5, "p99_ms": 43.2},
        "dead_letters": {"last_24h": {"malformed": 12, "refused_by_cassandra": 1}, "newest": newest.collect::<Vec<_>>()},
    })
}
