//! Requests to the publisher, and the check of its responses.

use std::collections::BTreeSet;

use model::Key;
use model::headers::http;
use reqwest::StatusCode;
use serde_json::Value;

use super::records::Body;
use super::{ClientRun, Positions, Workload};
use crate::evidence::records::Position;
use crate::evidence::records::{AckedRecord, fingerprint};

impl Workload {
    pub(super) async fn post(&self, batch: &[Body], positions: Positions, run: Option<ClientRun>) {
        let Some(_request) = self.begin_request().await else {
            return;
        };
        self.add_sent(batch);
        let bodies: Vec<_> = batch.iter().map(|body| body.json.as_slice()).collect();
        let mut request = self
            .client
            .post(self.publisher.clone())
            .header("content-type", "application/x-ndjson")
            .body(bodies.join(&b'\n'));
        if positions == Positions::Requested {
            request = request.header("prefer", "return=representation");
        }
        if let Some(ClientRun { id, next }) = run {
            request = request
                .header(http::RUN_ID, id.to_string())
                .header(http::RUN_SEQ, next.to_string());
        }
        // Any other outcome acknowledges nothing.
        let Ok(response) = request.send().await else {
            return;
        };
        let status = response.status();
        if !matches!(
            status,
            StatusCode::OK | StatusCode::MULTI_STATUS | StatusCode::UNPROCESSABLE_ENTITY
        ) {
            return;
        }
        if let Ok(response) = response.json::<Value>().await {
            self.check_response(batch, positions, status, &response);
        }
    }

    fn add_sent(&self, batch: &[Body]) {
        let mut ack_log = self.ack_log();
        let ids = batch.iter().filter_map(|body| body.id.as_ref());
        ack_log.sent_keys.extend(ids.map(|id| id.key.clone()));
        let valid = batch.iter().filter(|body| body.id.is_some());
        let fingerprints = valid.map(|body| fingerprint(self.contract(), Some(&body.json)));
        ack_log.sent_fingerprints.extend(fingerprints);
    }

    /// Compares a response with the request, and records the acknowledgements, also those of a wrong response.
    fn check_response(&self, batch: &[Body], positions: Positions, status: StatusCode, response: &Value) {
        let list = |name: &str| response[name].as_array().cloned().unwrap_or_default();
        let rejected: BTreeSet<_> = list("errors").iter().filter_map(index).collect();
        let invalid: BTreeSet<_> = (0..batch.len()).filter(|at| batch[*at].id.is_none()).collect();
        let records = list("records");
        let accepted = response["accepted"]
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(0);
        let requested = positions == Positions::Requested;
        let wrong = rejected != invalid
            || accepted != batch.len() - invalid.len()
            || requested && records.len() != accepted;
        let acked: Vec<_> = if requested && !records.is_empty() {
            let acked = records.iter().filter_map(|entry| {
                let body = batch.get(index(entry)?)?;
                let partition = i32::try_from(entry["partition"].as_i64()?).ok()?;
                let position = (partition, entry["offset"].as_i64()?);
                Some(acked(body, Some(self.history.continued(None, position))))
            });
            acked.collect()
        } else {
            // Without positions, every record that was not rejected is acknowledged.
            let valid = (0..).zip(batch);
            let valid = valid.filter(|(at, body)| body.id.is_some() && !rejected.contains(at));
            valid.map(|(_, body)| acked(body, None)).collect()
        };
        let mut ack_log = self.ack_log();
        if wrong {
            ack_log.wrong_responses.push(format!(
                "{status}: rejected {rejected:?} of the invalid {invalid:?}, accepted {accepted}"
            ));
        }
        ack_log.acked.extend(acked);
    }

    pub(super) async fn delete(&self, key: Key) {
        let Some(_request) = self.begin_request().await else {
            return;
        };
        let mut url = self.publisher.clone();
        url.path_segments_mut()
            .expect("an HTTP address has a path")
            .push(&key.text());
        let response = self.client.delete(url).send().await;
        if response.is_ok_and(|response| response.status() == StatusCode::NO_CONTENT) {
            let (key, value, position) = (Some(key), None, None);
            self.ack_log().acked.push(AckedRecord { key, value, position });
        }
    }
}

fn index(entry: &Value) -> Option<usize> {
    usize::try_from(entry["index"].as_u64()?).ok()
}

fn acked(body: &Body, position: Option<Position>) -> AckedRecord {
    AckedRecord {
        key: body.id.as_ref().map(|id| id.key.clone()),
        value: Some(body.json.clone()),
        position,
    }
}
