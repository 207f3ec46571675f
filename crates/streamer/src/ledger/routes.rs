//! `GET /v1/runs/{id}` of the admin port: what became of a run's records.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use model::headers::{PROBLEM, PROBLEM_TYPE_PREFIX};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::{self, SchemaError};
use crate::cassandra::session_pool::SessionPool;
use crate::ledger::ledger_run::LedgerRun;
use crate::ledger::store::LedgerStore;

/// The timeout of a request, while Cassandra is connected and responds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// When to retry while Cassandra is unavailable, in seconds.
const RETRY_AFTER: &str = "5";

/// Reads the ledger.
pub(crate) struct LedgerReader {
    pub(crate) sessions: Arc<SessionPool>,
    pub(crate) ledger: Arc<LedgerStore>,
}

/// The routes that `reader` serves.
pub(crate) fn routes(reader: Arc<LedgerReader>) -> Router {
    Router::new().route("/v1/runs/{id}", get(run)).with_state(reader)
}

async fn run(State(reader): State<Arc<LedgerReader>>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse() else {
        let detail = "the id of a run is a uuid";
        return problem(StatusCode::BAD_REQUEST, "bad-request", detail);
    };
    let unavailable = |detail: &str| {
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "cassandra-unavailable", detail);
        let retry_after = HeaderValue::from_static(RETRY_AFTER);
        response.headers_mut().insert(header::RETRY_AFTER, retry_after);
        response
    };
    match timeout(TIMEOUT, reader.read(id)).await {
        Ok(Ok(state)) => Json(state).into_response(),
        Ok(Err(ErrorClass::Fatal(error))) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", &error)
        }
        Ok(Err(error)) => unavailable(&error.to_string()),
        Err(_) => unavailable("no response within 5 s"),
    }
}

impl LedgerReader {
    async fn read(&self, run: Uuid) -> Result<LedgerRun, ErrorClass> {
        let session = self.sessions.get().await;
        let session = session.map_err(|error| ErrorClass::Invalid(service::process::chain(&error)))?;
        let table_id = schema::table_id(&session, self.sessions.settings()).await;
        let table_id = table_id.map_err(|error| match error {
            SchemaError::Failed { error, .. } => error,
            other => ErrorClass::Invalid(other.to_string()),
        })?;
        self.ledger.load(&session, run, table_id).await
    }
}

fn problem(status: StatusCode, kind: &str, detail: &str) -> Response {
    let document = json!({
        "type": format!("{PROBLEM_TYPE_PREFIX}{kind}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = (status, Json(document)).into_response();
    let content_type = HeaderValue::from_static(PROBLEM);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
