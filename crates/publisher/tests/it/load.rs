//! Callers that send without pause, remember what they heard, and hold it against the topic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::running::Publisher;
use crate::topic::Topic;
use crate::users::{ids, users};

/// What one request was answered with; none when the connection broke.
struct Sent {
    ids: Vec<String>,
    status: Option<u16>,
}

/// Callers at work.
pub(crate) struct Load {
    callers: JoinSet<()>,
    sent: Arc<Mutex<Vec<Sent>>>,
    stop: CancellationToken,
}

impl Load {
    /// Starts `callers`, each sending 20 records a request.
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
                while !stop.is_cancelled() {
                    let users = users(20);
                    let request = client.post(format!("{url}/v1/users")).json(&users);
                    let status = request.send().await.ok().map(|answer| answer.status().as_u16());
                    sent.lock().unwrap().push(Sent {
                        ids: ids(&users),
                        status,
                    });
                    if status != Some(200) {
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

    /// Holds every answer against the topic: 200 means all are in it, 503 that none is. Only 200, 503, 504 and
    /// broken connections may have been heard.
    pub(crate) async fn assert_no_answer_lied(&self, topic: &Topic) {
        let mut copies = BTreeMap::<String, usize>::new();
        for record in topic.read().await {
            *copies.entry(record.key).or_default() += 1;
        }
        for sent in self.sent.lock().unwrap().iter() {
            let found = sent.ids.iter().filter(|id| copies.contains_key(*id)).count();
            match sent.status {
                Some(200) => assert_eq!(found, sent.ids.len(), "acknowledged and not in the topic"),
                Some(503) => assert_eq!(found, 0, "said to be not written and in the topic"),
                Some(504) | None => {}
                Some(other) => panic!("answered {other}"),
            }
        }
        let twice = copies.values().filter(|copies| **copies > 1).count();
        assert_eq!(twice, 0, "the idempotent producer writes nothing twice");
    }
}
