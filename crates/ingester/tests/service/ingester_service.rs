//! The ingester service as a process, with a client of its API.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::ingester_process::Ingester;

/// Upper bound for a busy machine; no test waits for it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct IngesterService {
    pub(crate) ingester: Ingester,
    pub(crate) url: String,
    pub(crate) client: Client,
    token: Option<&'static str>,
}

impl IngesterService {
    /// Starts a service with pages of five that starts no run by schedule, unless `settings` have a cron expression.
    pub(crate) async fn start(api: &str, publisher: &str, settings: &[(&str, &str)]) -> Self {
        let scheduled = settings.iter().any(|(key, _)| *key == "SCHEDULE__CRON");
        let mut all = vec![
            ("SCHEDULE__ENABLED", if scheduled { "true" } else { "false" }),
            ("SOURCE__PAGE_SIZE", "5"),
            ("RUN__USERS", "10"),
        ];
        all.extend_from_slice(settings);
        let ingester = Ingester::start(&["run"], api, publisher, &all);
        let ready = |status: u16, _: &str| status == 200 && ingester.url("api").is_some();
        ingester.wait_for("/readyz", ready).await;
        Self {
            url: ingester.url("api").unwrap(),
            ingester,
            client: Client::new(),
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

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
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
