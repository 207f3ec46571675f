//! Callers that send without pause, remember what they heard, and hold it against the topic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::running::{Publisher, document};
use crate::topic::Topic;
use crate::users::{ids, users};

/// What one request was answered with; none when the connection broke.
struct Sent {
    ids: Vec<String>,
    status: Option<u16>,
    /// The places of the records that were said to be refused.
    refused: Vec<usize>,
}

/// The one record of each other request that is not valid.
const INVALID: usize = 7;

async fn send(client: &Client, url: &str, mixed: bool) -> Sent {
    let mut users = users(20);
    if mixed {
        users[INVALID]["email"] = "nobody".into();
    }
    let ids = ids(&users);
    let answer = client.post(format!("{url}/v1/users")).json(&users).send().await;
    let Ok(answer) = answer else {
        return Sent {
            ids,
            status: None,
            refused: vec![],
        };
    };
    let (status, body) = document(answer).await;
    let errors = body["errors"].as_array().into_iter().flatten();
    let refused = errors.map(|error| usize::try_from(error["index"].as_u64().unwrap()).unwrap());
    Sent {
        ids,
        status: Some(status),
        refused: refused.collect(),
    }
}

/// Callers at work.
pub(crate) struct Load {
    callers: JoinSet<()>,
    sent: Arc<Mutex<Vec<Sent>>>,
    stop: CancellationToken,
}

impl Load {
    /// Starts `callers`, each sending 20 records a request, of which one is not valid every other time.
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
                    let heard = send(&client, &url, mixed).await;
                    let well = matches!(heard.status, Some(200 | 207));
                    sent.lock().unwrap().push(heard);
                    if !well {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            });
        }
        load
    }

    /// How many requests were answered with `status`.
    pub(crate) fn count(&self, status: u16) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.iter().filter(|sent| sent.status == Some(status)).count()
    }

    /// Lets the callers finish.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
    }

    /// Who has heard nothing finds nothing in the topic: whatever was taken was answered.
    pub(crate) async fn assert_what_was_taken_was_answered(&self, topic: &Topic) {
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
                "taken and not answered"
            );
        }
    }

    /// No request was answered otherwise, and no connection broke.
    pub(crate) fn assert_heard_only(&self, statuses: &[u16]) {
        for sent in self.sent.lock().unwrap().iter() {
            assert!(
                sent.status.is_some_and(|status| statuses.contains(&status)),
                "{:?}",
                sent.status
            );
        }
    }

    /// Holds every answer against the topic: 200 means that all are in it, 207 all but those listed, 503 that none is.
    /// Only these, 504 and broken connections may have been heard.
    pub(crate) async fn assert_no_answer_lied(&self, topic: &Topic) {
        let mut copies = BTreeMap::<String, usize>::new();
        for record in topic.read().await {
            *copies.entry(record.key).or_default() += 1;
        }
        for sent in self.sent.lock().unwrap().iter() {
            let found = sent.ids.iter().filter(|id| copies.contains_key(*id)).count();
            match sent.status {
                Some(200) => assert_eq!(found, sent.ids.len(), "acknowledged and not in the topic"),
                Some(207) => {
                    assert_eq!(sent.refused, [INVALID]);
                    assert_eq!(found, sent.ids.len() - 1, "acknowledged and not in the topic");
                    assert!(
                        !copies.contains_key(&sent.ids[INVALID]),
                        "refused and in the topic"
                    );
                }
                Some(503) => assert_eq!(found, 0, "said to be not written and in the topic"),
                Some(504) | None => {}
                Some(other) => panic!("answered {other}"),
            }
        }
        let twice = copies.values().filter(|copies| **copies > 1).count();
        assert_eq!(twice, 0, "the idempotent producer writes nothing twice");
    }
}
