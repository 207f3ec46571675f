//! A load of users whose way from the acknowledgement to the row is timed from outside.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use uuid::Uuid;

use super::env::{SecuredEnv, TIMEOUT, eventually, record};

/// Time between two requests.
const INTERVAL: Duration = Duration::from_millis(20);
/// Time between two looks at the table.
const OBSERVATION_INTERVAL: Duration = Duration::from_millis(200);

/// A record is late if its row comes later than this. A rotation restarts the only streamer, which takes a second on an idle
/// machine. One that waits for another attempt to get a token, or for the end of a session with Kafka, takes ten or more.
const LATE: Duration = Duration::from_secs(9);

/// Sends users to a publisher, and looks at the table for their rows.
pub(crate) struct Load<'env> {
    env: &'env SecuredEnv,
    publisher: Mutex<String>,
    acknowledged: Mutex<BTreeMap<Uuid, User>>,
}

struct User {
    acknowledged: Instant,
    /// From the acknowledgement to the first look that finds the row.
    delay: Option<Duration>,
}

impl<'env> Load<'env> {
    /// A load for the publisher at `url`.
    pub(crate) fn new(env: &'env SecuredEnv, url: String) -> Self {
        Self {
            env,
            publisher: Mutex::new(url),
            acknowledged: Mutex::default(),
        }
    }

    /// Runs the load while `steps` run.
    pub(crate) async fn during<T>(&self, steps: impl Future<Output = T>) -> T {
        tokio::select! {
            result = steps => result,
            () = self.send() => unreachable!("the load ends with the steps"),
            () = self.observe_all() => unreachable!("the looks end with the steps"),
        }
    }

    /// Sends later users to the publisher at `url`.
    pub(crate) fn move_to(&self, url: String) {
        *self.publisher.lock().unwrap() = url;
    }

    /// Sends one user after another. A request that fails is not acknowledged.
    async fn send(&self) {
        let client = Client::new();
        loop {
            let record = record(Uuid::new_v4(), 0);
            let id = String::from_utf8(record.key.unwrap()).unwrap();
            let url = format!("{}/v1/users", self.publisher.lock().unwrap());
            let request = client
                .request(Method::POST, url)
                .header("content-type", "application/json")
                .body(record.value.unwrap())
                .timeout(TIMEOUT);
            if request
                .send()
                .await
                .is_ok_and(|response| response.status() == 200)
            {
                let user = User {
                    acknowledged: Instant::now(),
                    delay: None,
                };
                self.acknowledged
                    .lock()
                    .unwrap()
                    .insert(id.parse().unwrap(), user);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn observe_all(&self) {
        loop {
            self.observe().await;
            tokio::time::sleep(OBSERVATION_INTERVAL).await;
        }
    }

    async fn observe(&self) {
        let rows = self.env.table.users().await.unwrap();
        let now = Instant::now();
        for (id, user) in self.acknowledged.lock().unwrap().iter_mut() {
            if user.delay.is_none() && rows.contains_key(id) {
                user.delay = Some(now - user.acknowledged);
            }
        }
    }

    /// The numbers of acknowledged users, and of those that are rows.
    fn counts(&self) -> (usize, usize) {
        let users = self.acknowledged.lock().unwrap();
        let stored = users.values().filter(|user| user.delay.is_some()).count();
        (users.len(), stored)
    }

    /// Waits until more acknowledged users are rows than now are acknowledged.
    pub(crate) async fn wait_for_progress(&self) {
        let (before, _) = self.counts();
        eventually("later users are rows", async || match self.counts() {
            (_, stored) if stored > before => Ok(()),
            (_, stored) => Err(format!("{stored} of {before}")),
        })
        .await;
    }

    /// Panics if a row came late.
    pub(crate) fn assert_nothing_late(&self) {
        let users = self.acknowledged.lock().unwrap();
        let delay = |user: &User| user.delay.unwrap_or_else(|| user.acknowledged.elapsed());
        let longest = users.values().map(delay).max().unwrap();
        println!("the latest of {} rows came after {longest:?}", users.len());
        assert!(longest < LATE, "{longest:?}");
    }

    /// Panics unless each acknowledged user is a row and none is a dead letter. The load must have ended, and the group
    /// must have caught up.
    pub(crate) async fn assert_nothing_lost(&self) {
        self.observe().await;
        let (acknowledged, stored) = self.counts();
        assert!(
            acknowledged > 0 && stored == acknowledged,
            "{stored} of {acknowledged}"
        );
        let letters = self
            .env
            .records
            .end_offsets(&self.env.dead_letters())
            .await
            .unwrap();
        assert!(letters.values().all(|end| *end == 0), "{letters:?}");
    }
}
