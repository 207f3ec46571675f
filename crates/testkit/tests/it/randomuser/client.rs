//! Starts the API and sends requests with a timeout.

use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::Value;
use testkit::randomuser::{Options, RandomUserApi};

pub(crate) async fn start() -> RandomUserApi {
    start_with(Options::default()).await
}

pub(crate) async fn start_with(options: Options) -> RandomUserApi {
    RandomUserApi::start(options)
        .await
        .expect("a free port of loopback can be listened on")
}

pub(crate) fn client() -> Client {
    Client::builder()
        .timeout(Duration::from_secs(20))
        .no_proxy()
        .build()
        .expect("a plain client")
}

pub(crate) async fn get(api: &RandomUserApi, path: &str) -> Response {
    client()
        .get(format!("{}{path}", api.url()))
        .send()
        .await
        .expect("a reply")
}

pub(crate) async fn text(api: &RandomUserApi, path: &str) -> String {
    get(api, path).await.text().await.expect("a whole body")
}

pub(crate) async fn page(api: &RandomUserApi, path: &str) -> Value {
    serde_json::from_str(&text(api, path).await).expect("a body of JSON")
}

pub(crate) fn results(page: &Value) -> &[Value] {
    page["results"].as_array().expect("a list of results")
}

pub(crate) fn uuids(page: &Value) -> Vec<&str> {
    results(page)
        .iter()
        .map(|user| user["login"]["uuid"].as_str().expect("a uuid"))
        .collect()
}
