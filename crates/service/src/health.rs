//! What the process knows of its own state: which dependencies it holds (readiness) and whether
//! something is wrong that only a restart cures (liveness). A dependency that is down is never a
//! reason to be restarted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// Shared by the tasks that report and the admin server that answers.
#[derive(Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    dependencies: Mutex<Vec<DependencyState>>,
    watches: Mutex<Vec<Watch>>,
}

struct Watch {
    name: &'static str,
    check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// One line of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DependencyState {
    /// What is depended on, such as `kafka`.
    pub name: &'static str,
    /// Whether it is held right now.
    pub ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Every dependency is held and the process is not stopping.
    pub ready: bool,
    /// The process was told to stop and takes no new work.
    pub stopping: bool,
    /// Each dependency by itself.
    pub dependencies: Vec<DependencyState>,
}

/// The answer of `/healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Liveness {
    /// No watch found anything that a restart would cure.
    pub live: bool,
    /// What was found, watch by watch.
    pub failures: Vec<String>,
}

impl Health {
    /// Adds a dependency, not ready until [`Dependency::ready`] is called.
    pub fn dependency(&self, name: &'static str) -> Dependency {
        let mut dependencies = lock(&self.shared.dependencies);
        let state = DependencyState {
            name,
            ready: false,
            reason: Some("not yet reached".to_owned()),
        };
        dependencies.push(state);
        Dependency {
            shared: Arc::clone(&self.shared),
            index: dependencies.len() - 1,
        }
    }

    /// Adds a liveness check; its error is the reason shown by `/healthz`. It is called on each
    /// request and must not block.
    pub fn watch(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        lock(&self.shared.watches).push(Watch {
            name,
            check: Box::new(check),
        });
    }

    /// From now on `/readyz` answers 503.
    pub fn stopping(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// Whether every dependency is held.
    pub fn readiness(&self) -> Readiness {
        let stopping = self.shared.stopping.load(Ordering::Acquire);
        let dependencies = lock(&self.shared.dependencies).clone();
        let ready = !stopping && dependencies.iter().all(|dependency| dependency.ready);
        Readiness {
            ready,
            stopping,
            dependencies,
        }
    }

    /// Whether a restart would cure something.
    pub fn liveness(&self) -> Liveness {
        let failures: Vec<_> = lock(&self.shared.watches)
            .iter()
            .filter_map(|watch| {
                (watch.check)()
                    .err()
                    .map(|reason| format!("{}: {reason}", watch.name))
            })
            .collect();
        Liveness {
            live: failures.is_empty(),
            failures,
        }
    }
}

/// The handle by which a task reports on one dependency.
#[derive(Clone)]
pub struct Dependency {
    shared: Arc<Shared>,
    index: usize,
}

impl Dependency {
    /// The dependency is held.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The dependency is not held; `reason` says what the process waits for.
    pub fn unready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// What was reported last.
    pub fn is_ready(&self) -> bool {
        lock(&self.shared.dependencies)[self.index].ready
    }

    /// Changes are logged once, not each report.
    fn set(&self, reason: Option<String>) {
        let mut dependencies = lock(&self.shared.dependencies);
        let state = &mut dependencies[self.index];
        let ready = reason.is_none();
        if state.ready != ready || (!ready && state.reason != reason) {
            match &reason {
                None => tracing::info!(dependency = state.name, "dependency ready"),
                Some(reason) => tracing::warn!(dependency = state.name, reason, "dependency not ready"),
            }
        }
        state.ready = ready;
        state.reason = reason;
    }
}

/// A panic in another thread leaves plain data behind, which is still true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_the_dependency_that_is_missing() {
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
    fn a_stopping_process_is_not_ready_but_live() {
        let health = Health::default();
        health.stopping();
        assert!(!health.readiness().ready);
        assert!(health.liveness().live);
    }

    #[test]
    fn a_failing_watch_gives_its_reason() {
        let health = Health::default();
        health.watch("poll", || Err("no poll for 70 s".to_owned()));
        assert_eq!(health.liveness().failures, ["poll: no poll for 70 s"]);
    }
}
