//! What is known of Kafka right now: there, not there, or broken for good. Filled by the watch and by the producer's
//! own reports; it asks nobody itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::IntGauge;
use service::Dependency;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// What ends the process: waiting does not mend it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// The idempotent producer has lost count and can promise nothing any more; only a new one can.
    #[error("the producer can't go on: {0}")]
    Producer(String),
    /// Kafka did not know who we are when we first came.
    #[error("kafka refuses the credentials: {0}")]
    Credentials(String),
}

/// Shared by the watch, the producer's callbacks and the requests.
#[derive(Clone)]
pub struct KafkaLink {
    shared: Arc<Shared>,
}

struct Shared {
    dependency: Dependency,
    gauge: IntGauge,
    up: AtomicBool,
    ever_up: AtomicBool,
    last_error: Mutex<Option<String>>,
    broken: OnceLock<Broken>,
    break_told: CancellationToken,
}

impl KafkaLink {
    /// Not there yet.
    pub fn new(dependency: Dependency, gauge: IntGauge) -> Self {
        let shared = Shared {
            dependency,
            gauge,
            up: AtomicBool::new(false),
            ever_up: AtomicBool::new(false),
            last_error: Mutex::new(None),
            broken: OnceLock::new(),
            break_told: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Whether Kafka was there when it was last asked.
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }

    /// Kafka answers, and the topic can be written.
    pub(crate) fn up(&self) {
        self.shared.up.store(true, Ordering::Release);
        self.shared.ever_up.store(true, Ordering::Release);
        *self.last_error() = None;
        self.shared.gauge.set(1);
        self.shared.dependency.ready();
    }

    /// It does not, or can't.
    pub(crate) fn down(&self, reason: &str) {
        self.shared.up.store(false, Ordering::Release);
        self.shared.gauge.set(0);
        let last_error = self.last_error().clone();
        match last_error {
            Some(error) => self.shared.dependency.unready(format!("{reason}; {error}")),
            None => self.shared.dependency.unready(reason),
        }
    }

    /// What librdkafka says of a connection: the cause to be named while Kafka is not there.
    pub(crate) fn note(&self, error: &str) {
        // What follows counts milliseconds and repetitions; it would make a new reason of the same one.
        let constant = error.split(" (after ").next().unwrap_or(error);
        *self.last_error() = Some(constant.to_owned());
    }

    /// Kafka does not accept our credentials. Once it has, a refusal is an outage: they may be changing right now.
    pub(crate) fn credentials_refused(&self, reason: &str) {
        if self.shared.ever_up.load(Ordering::Acquire) {
            self.note(reason);
        } else {
            self.break_down(Broken::Credentials(reason.to_owned()));
        }
    }

    /// Ends the service; the first reason counts.
    pub(crate) fn break_down(&self, broken: Broken) {
        self.down(&broken.to_string());
        // A second reason follows from the first.
        drop(self.shared.broken.set(broken));
        self.shared.break_told.cancel();
    }

    /// Waits until it is broken for good.
    pub(crate) async fn broken(&self) -> Broken {
        self.shared.break_told.cancelled().await;
        let broken = self.shared.broken.get().cloned();
        broken.expect("the reason is set before the break is told")
    }

    fn last_error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.shared
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use service::Health;

    use super::*;

    fn link() -> (KafkaLink, Health) {
        let health = Health::default();
        let gauge = IntGauge::new("up", "up").unwrap();
        (KafkaLink::new(health.dependency("kafka"), gauge), health)
    }

    fn reason(health: &Health) -> Option<String> {
        health.readiness().dependencies[0].reason.clone()
    }

    #[test]
    fn readiness_names_the_cause_until_kafka_is_there() {
        let (link, health) = link();
        link.note("a:1: connection refused (after 3ms in state CONNECT, 4 identical error(s) suppressed)");
        link.down("no broker answers");
        assert_eq!(
            reason(&health).unwrap(),
            "no broker answers; a:1: connection refused"
        );
        link.up();
        assert!(link.is_up() && health.readiness().ready);
        link.down("no broker answers");
        assert_eq!(reason(&health).unwrap(), "no broker answers");
    }

    #[tokio::test]
    async fn refused_credentials_end_it_only_before_the_first_success() {
        let (link, health) = link();
        link.up();
        link.credentials_refused("no such user");
        assert!(link.shared.broken.get().is_none() && health.readiness().ready);
        let (link, _) = self::link();
        link.credentials_refused("no such user");
        link.break_down(Broken::Producer("later".to_owned()));
        assert_eq!(
            link.broken().await,
            Broken::Credentials("no such user".to_owned())
        );
    }
}
