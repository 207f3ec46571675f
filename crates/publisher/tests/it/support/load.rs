//! Callers that send continuously, and checks of their responses against the topic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::publisher_process::{Publisher, read_response};
use super::sample_users::{ids, users};
use super::topic::Topic;

/// One request and the status of its response; none if the connection failed.
struct SentRequest {
    ids: Vec<String>,
    status: Option<u16>,
    /// The indices of the records that were reported as rejected.
    rejected: Vec<usize>,
}

/// The index of the invalid record in every other request.
const INVALID: usize = 7;

async fn send(client: &Client, url: &str, mixed: bool) -> SentRequest {
    let mut users = users(20);
    if mixed {
        users[INVALID]["email"] = "invalid".into();
    }
    let ids = ids(&users);
    let response = client.post(format!("{url}/v1/users")).json(&users).send().await;
    let Ok(response) = response else {
        return SentRequest {
            ids,
            status: None,
            rejected: vec![],
        };
    };
    let (status, body) = read_response(response).await;
    let errors = body["errors"].as_array().into_iter().flatten();
    let rejected = errors.map(|error| usize::try_from(error["index"].as_u64().unwrap()).unwrap());
    SentRequest {
        ids,
        status: Some(status),
        rejected: rejected.collect(),
    }
}

/// Concurrent callers.
pub(crate) struct Load {
    callers: JoinSet<()>,
    sent: Arc<Mutex<Vec<SentRequest>>>,
    stop: CancellationToken,
}

impl Load {
    /// Starts `callers` that send 20 records a request. Every other request has one invalid record.
    pub(crate) fn start(publisher: &Publisher, callers: usize) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            sent: Arc::default(),
            stop: CancellationToken::new(),
        };
        for _ in 0..callers {
            let (sent, stop) = (Arc::clone(&load.sent), load.stop.clone());
            let (client, url) = (publisher.client.clone(), publisher.url.clone());
            load.callers.spawn(async move {
                let mut mixed = false;
                while !stop.is_cancelled() {
                    mixed = !mixed;
                    let sent_request = send(&client, &url, mixed).await;
                    let succeeded = matches!(sent_request.status, Some(200 | 207));
                    sent.lock().unwrap().push(sent_request);
                    if !succeeded {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
        load
    }

    /// The number of responses with `status`.
    pub(crate) fn count(&self, status: u16) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|sent| sent.status == Some(status)).count()
    }

    /// Stops the callers after their current requests.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
    }

    /// Asserts that no record of a request without a response is in the topic.
    pub(crate) async fn assert_requests_without_response_wrote_nothing(&self, topic: &Topic) {
        let written = topic.ids().await;
        for sent in self
            .sent
            .lock()
            .unwrap()
            .iter()
            .filter(|sent| sent.status.is_none())
        {
            assert!(
                sent.ids.iter().all(|id| !written.contains(id)),
                "written without a response"
            );
        }
    }

    /// Asserts that every response has one of these statuses and no connection failed.
    pub(crate) fn assert_only_statuses(&self, statuses: &[u16]) {
        for sent in self.sent.lock().unwrap().iter() {
            assert!(
                sent.status.is_some_and(|status| statuses.contains(&status)),
                "{:?}",
                sent.status
            );
        }
    }

    /// Asserts that every response matches the topic: all records after 200, all but the listed ones after 207, none
    /// after
    /// 503. Other responses than these and 504 fail.
    pub(crate) async fn assert_responses_match_topic(&self, topic: &Topic) {
        let mut copies = BTreeMap::<String, usize>::new();
        for record in topic.read().await {
            *copies.entry(record.key).or_default() += 1;
        }
        for sent in self.sent.lock().unwrap().iter() {
            let found = sent.ids.iter().filter(|id| copies.contains_key(*id)).count();
            match sent.status {
                Some(200) => assert_eq!(found, sent.ids.len(), "acknowledged but not in the topic"),
                Some(207) => {
                    assert_eq!(sent.rejected, [INVALID]);
                    assert_eq!(found, sent.ids.len() - 1, "acknowledged but not in the topic");
                    assert!(
                        !copies.contains_key(&sent.ids[INVALID]),
                        "rejected but in the topic"
                    );
                }
                Some(503) => assert_eq!(found, 0, "reported as not written but in the topic"),
                Some(504) | None => {}
                Some(other) => panic!("unexpected status {other}"),
            }
        }
        let duplicates = copies.values().filter(|copies| **copies > 1).count();
        assert_eq!(duplicates, 0, "the idempotent producer writes no duplicates");
    }
}
