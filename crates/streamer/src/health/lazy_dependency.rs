//! A dependency that `/readyz` lists only once it has been unready. Most processes never list it.

use std::sync::OnceLock;

use service::{Dependency, Health};

/// Reports a dependency from its first failure on.
pub struct LazyDependency {
    health: Health,
    name: &'static str,
    dependency: OnceLock<Dependency>,
}

impl LazyDependency {
    /// Creates the dependency without listing it.
    pub fn new(health: Health, name: &'static str) -> Self {
        Self {
            health,
            name,
            dependency: OnceLock::new(),
        }
    }

    /// Reports the dependency as ready.
    pub fn ready(&self) {
        if let Some(dependency) = self.dependency.get() {
            dependency.ready();
        }
    }

    /// Reports the dependency as unready, with the reason.
    pub fn unready(&self, reason: impl Into<String>) {
        self.dependency
            .get_or_init(|| self.health.dependency(self.name))
            .unready(reason);
    }

    /// The last report.
    pub fn is_ready(&self) -> bool {
        self.dependency.get().is_none_or(Dependency::is_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_is_listed_from_its_first_failure() {
        let health = Health::default();
        let topic = LazyDependency::new(health.clone(), "topic");
        topic.ready();
        assert!(topic.is_ready() && health.readiness().dependencies.is_empty());
        topic.unready("unreachable");
        assert!(!topic.is_ready() && !health.readiness().ready);
        topic.ready();
        topic.unready("unreachable");
        assert_eq!(health.readiness().dependencies.len(), 1);
    }
}
