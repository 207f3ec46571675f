//! Readiness (are all dependencies available?) and liveness (would a restart help?) of the process.
//!
//! A dependency that is down never affects liveness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::telemetry::log_limiter::OutageLog;

/// The health of a process, shared by the tasks that report it and the admin server.
#[derive(Clone, Default)]
pub struct Health {
    shared: Arc<HealthState>,
}

#[derive(Default)]
struct HealthState {
    stopping: AtomicBool,
    dependencies: Mutex<Vec<Reported>>,
    checks: Mutex<Vec<LivenessCheck>>,
}

/// A dependency, and what of it is logged.
struct Reported {
    state: DependencyState,
    log: OutageLog,
}

struct LivenessCheck {
    name: &'static str,
    check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// The state of one dependency in `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DependencyState {
    /// The dependency, such as `kafka`.
    pub name: &'static str,
    /// Whether it is available.
    pub ready: bool,
    /// Why it is not available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The response body of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Every dependency is known and available, and the process is not shutting down.
    pub ready: bool,
    /// The process is shutting down and accepts no new work.
    pub stopping: bool,
    /// Each dependency.
    pub dependencies: Vec<DependencyState>,
}

/// The response body of `/healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Liveness {
    /// All liveness checks pass.
    pub live: bool,
    /// The failed checks, each with its reason.
    pub failures: Vec<String>,
}

impl Health {
    /// The reason of a dependency that was not reported yet.
    pub const NOT_YET_REACHED: &'static str = "not yet reached";

    /// Adds a dependency that is not ready until [`Dependency::ready`] is called.
    pub fn dependency(&self, name: &'static str) -> Dependency {
        let mut dependencies = lock(&self.shared.dependencies);
        let state = DependencyState {
            name,
            ready: false,
            reason: Some(Self::NOT_YET_REACHED.to_owned()),
        };
        let log = OutageLog::default();
        dependencies.push(Reported { state, log });
        Dependency {
            shared: Arc::clone(&self.shared),
            index: dependencies.len() - 1,
        }
    }

    /// Adds a liveness check; its error is the reason in `/healthz`. Each request calls it, so it must not block.
    pub fn watch(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        lock(&self.shared.checks).push(LivenessCheck {
            name,
            check: Box::new(check),
        });
    }

    /// Makes `/readyz` return 503 from now on.
    pub fn stopping(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// Whether every dependency is available.
    pub fn readiness(&self) -> Readiness {
        let stopping = self.shared.stopping.load(Ordering::Acquire);
        let dependencies: Vec<_> = lock(&self.shared.dependencies)
            .iter()
            .map(|reported| reported.state.clone())
            .collect();
        // The admin port responds before the service has named its dependencies.
        let ready = !stopping && !dependencies.is_empty() && dependencies.iter().all(|it| it.ready);
        Readiness {
            ready,
            stopping,
            dependencies,
        }
    }

    /// Whether all liveness checks pass.
    pub fn liveness(&self) -> Liveness {
        let failures: Vec<_> = lock(&self.shared.checks)
            .iter()
            .filter_map(|LivenessCheck { name, check }| {
                let reason = check().err()?;
                Some(format!("{name}: {reason}"))
            })
            .collect();
        Liveness {
            live: failures.is_empty(),
            failures,
        }
    }
}

/// The handle with which a task reports the state of one dependency.
#[derive(Clone)]
pub struct Dependency {
    shared: Arc<HealthState>,
    index: usize,
}

impl Dependency {
    /// Reports that the dependency is available.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Reports that the dependency is not available, and why.
    pub fn unready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// The state that was reported last.
    pub fn is_ready(&self) -> bool {
        lock(&self.shared.dependencies)[self.index].state.ready
    }

    /// Logs an outage, its end, and another reason at most once a minute.
    fn set(&self, reason: Option<String>) {
        let mut dependencies = lock(&self.shared.dependencies);
        let Reported { state, log } = &mut dependencies[self.index];
        if log.admit(reason.as_deref(), Instant::now()) {
            match &reason {
                None => tracing::info!(dependency = state.name, "dependency ready"),
                Some(reason) => tracing::warn!(dependency = state.name, reason, "dependency not ready"),
            }
        }
        state.ready = reason.is_none();
        state.reason = reason;
    }
}

/// Ignores poisoning: a panic in another thread leaves valid data behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_the_missing_dependency() {
        let health = Health::default();
        let kafka = health.dependency("kafka");
        let cassandra = health.dependency("cassandra");
        kafka.ready();
        cassandra.unready("connection refused");
        let readiness = health.readiness();
        assert!(!readiness.ready);
        assert_eq!(
            readiness.dependencies[1].reason.as_deref(),
            Some("connection refused")
        );
        cassandra.ready();
        assert!(health.readiness().ready);
    }

    #[test]
    fn starting_process_is_live_but_not_ready() {
        let health = Health::default();
        assert!(!health.readiness().ready && health.liveness().live);
    }

    #[test]
    fn stopping_process_is_live_but_not_ready() {
        let health = Health::default();
        health.dependency("kafka").ready();
        health.stopping();
        assert!(!health.readiness().ready);
        assert!(health.liveness().live);
    }

    #[test]
    fn failed_liveness_check_reports_its_reason() {
        let health = Health::default();
        health.watch("poll", || Err("no poll for 70 s".to_owned()));
        assert_eq!(health.liveness().failures, ["poll: no poll for 70 s"]);
    }
}
