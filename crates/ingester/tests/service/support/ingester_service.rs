//! The ingester service as a process, with a client of its API.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use testkit::service::Service;

use crate::support::TIMEOUT;
use crate::support::ingester_process::start_ingester;

pub(crate) struct IngesterService {
    pub(crate) ingester: Service,
    token: Option<&'static str>,
}

impl IngesterService {
    /// Starts a service with pages of five that starts no run by schedule, unless `settings` have a cron expression.
    pub(crate) async fn start(api: &str, publisher: &str, settings: &[(&str, &str)]) -> Self {
        let scheduled = settings.iter().any(|(key, _)| *key == "schedule.cron");
        let mut all = vec![
            ("schedule.enabled", if scheduled { "true" } else { "false" }),
            ("source.page_size", "5"),
            ("run.users", "10"),
        ];
        all.extend_from_slice(settings);
        let ingester = start_ingester(&["run"], api, publisher, &all);
        ingester.wait_until_ready(TIMEOUT).await.unwrap();
        // The API may listen only after the first probe of the publisher.
        let until = Instant::now() + TIMEOUT;
        while let Err(error) = ingester.request(Method::GET, "/openapi.json").send().await {
            assert!(Instant::now() < until, "{error}\n{}", ingester.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self {
            ingester,
            token: None,
        }
    }

    /// Sends this token with each request.
    pub(crate) fn with_token(self, token: &'static str) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// Returns the URL of the page.
    pub(crate) fn page(&self) -> String {
        format!("{}/", self.ingester.api())
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = self.ingester.request(method, path).timeout(TIMEOUT);
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, Value::Null).await.1
    }

    /// Waits until the run is in this state, and returns it.
    pub(crate) async fn wait_for_state(&self, run: &Value, state: &str) -> Value {
        self.wait_for(&path(run), |run| run["state"] == state).await
    }

    pub(crate) async fn wait_for(&self, path: &str, accept: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + TIMEOUT;
        loop {
            let response = self.get(path).await;
            if accept(&response) {
                return response;
            }
            assert!(
                Instant::now() < until,
                "{path}: {response}\n{}",
                self.ingester.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn path(run: &Value) -> String {
    format!("/v1/runs/{}", run["id"].as_str().unwrap())
}

/// Parses a time in a response.
pub(crate) fn instant(value: &Value) -> jiff::Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("not a time: {value}"));
    text.parse().unwrap()
}
