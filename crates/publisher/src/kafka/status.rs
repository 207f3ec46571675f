//! The current status of Kafka: up, down or permanently failed. The topic monitor and the producer's callbacks set
//! it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::IntGauge;
use service::Dependency;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// An error from which a running process can't recover.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FatalKafkaError {
    /// The idempotent producer has failed, for example after the broker lost acknowledged records. Only a new
    /// producer can continue.
    #[error("fatal error of the idempotent producer, which only a restart fixes: {0}")]
    Producer(String),
    /// Kafka rejects the credentials at the first connection, or authorizes no write at all.
    #[error("failed to get access to Kafka, check kafka.properties and the ACLs: {0}")]
    Access(String),
}

/// The status, shared by the topic monitor, the producer's callbacks and the requests.
#[derive(Clone)]
pub struct KafkaStatus {
    shared: Arc<StatusInner>,
}

struct StatusInner {
    dependency: Dependency,
    gauge: IntGauge,
    up: AtomicBool,
    ever_up: AtomicBool,
    last_error: Mutex<Option<String>>,
    fatal: OnceLock<FatalKafkaError>,
    failed: CancellationToken,
}

impl KafkaStatus {
    /// Kafka is down at first.
    pub fn new(dependency: Dependency, gauge: IntGauge) -> Self {
        let shared = StatusInner {
            dependency,
            gauge,
            up: AtomicBool::new(false),
            ever_up: AtomicBool::new(false),
            last_error: Mutex::new(None),
            fatal: OnceLock::new(),
            failed: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Whether the last probe found Kafka up.
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }

    /// Kafka responds, and the topic is writable.
    pub(crate) fn set_up(&self) {
        self.shared.up.store(true, Ordering::Release);
        self.shared.ever_up.store(true, Ordering::Release);
        *self.last_error() = None;
        self.shared.gauge.set(1);
        self.shared.dependency.ready();
    }

    /// Kafka does not respond, or the topic is not writable.
    pub(crate) fn set_down(&self, reason: &str) {
        self.shared.up.store(false, Ordering::Release);
        self.shared.gauge.set(0);
        let last_error = self.last_error().clone();
        match last_error {
            Some(error) => self.shared.dependency.unready(format!("{reason}; {error}")),
            None => self.shared.dependency.unready(reason),
        }
    }

    /// Records librdkafka's error of a connection, which readiness reports as the cause while Kafka is down.
    pub(crate) fn record_error(&self, error: &str) {
        // The suffix counts milliseconds and repetitions, which would make each error a different reason.
        *self.last_error() = Some(::kafka::events::constant_part(error).to_owned());
    }

    /// Kafka rejects our credentials. That is fatal before Kafka was up once. Later it is an outage, because the
    /// credentials may be rotating.
    pub(crate) fn authentication_failed(&self, reason: &str) {
        if self.shared.ever_up.load(Ordering::Acquire) {
            self.record_error(reason);
        } else {
            self.fail(FatalKafkaError::Access(reason.to_owned()));
        }
    }

    /// Ends the service with the first fatal error.
    pub(crate) fn fail(&self, error: FatalKafkaError) {
        self.set_down(&error.to_string());
        // A second error is a consequence of the first.
        drop(self.shared.fatal.set(error));
        self.shared.failed.cancel();
    }

    /// Waits for the fatal error.
    pub(crate) async fn failed(&self) -> FatalKafkaError {
        self.shared.failed.cancelled().await;
        let error = self.shared.fatal.get().cloned();
        error.expect("the error is set before the token is cancelled")
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

    fn status() -> (KafkaStatus, Health) {
        let health = Health::default();
        let gauge = IntGauge::new("up", "up").unwrap();
        (KafkaStatus::new(health.dependency("kafka"), gauge), health)
    }

    fn reason(health: &Health) -> Option<String> {
        health.readiness().dependencies[0].reason.clone()
    }

    #[test]
    fn readiness_reports_the_cause_while_kafka_is_down() {
        let (status, health) = status();
        status.record_error(
            "a:1: connection refused (after 3ms in state CONNECT, 4 identical error(s) suppressed)",
        );
        status.set_down("no broker responds");
        assert_eq!(
            reason(&health).unwrap(),
            "no broker responds; a:1: connection refused"
        );
        status.set_up();
        assert!(status.is_up() && health.readiness().ready);
        status.set_down("no broker responds");
        assert_eq!(reason(&health).unwrap(), "no broker responds");
    }

    #[tokio::test]
    async fn rejected_credentials_are_fatal_only_before_the_first_success() {
        let (status, health) = status();
        status.set_up();
        status.authentication_failed("no such user");
        assert!(status.shared.fatal.get().is_none() && health.readiness().ready);
        let (status, _) = self::status();
        status.authentication_failed("no such user");
        status.fail(FatalKafkaError::Producer("later".to_owned()));
        assert_eq!(
            status.failed().await,
            FatalKafkaError::Access("no such user".to_owned())
        );
    }
}
