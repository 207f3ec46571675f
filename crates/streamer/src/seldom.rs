//! A dependency that `/readyz` names only once it has been missed: most processes never hear of it.

use std::sync::OnceLock;

use service::{Dependency, Health};

/// Reports on one dependency, from the first time on that it is not held.
pub struct Seldom {
    health: Health,
    name: &'static str,
    dependency: OnceLock<Dependency>,
}

impl Seldom {
    /// Not mentioned yet.
    pub fn new(health: Health, name: &'static str) -> Self {
        Self {
            health,
            name,
            dependency: OnceLock::new(),
        }
    }

    /// It is held.
    pub fn ready(&self) {
        if let Some(dependency) = self.dependency.get() {
            dependency.ready();
        }
    }

    /// It is not; `reason` says what is waited for.
    pub fn unready(&self, reason: impl Into<String>) {
        self.dependency
            .get_or_init(|| self.health.dependency(self.name))
            .unready(reason);
    }

    /// What was reported last.
    pub fn is_ready(&self) -> bool {
        self.dependency.get().is_none_or(Dependency::is_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_mentioned_from_the_first_time_on_that_it_is_missed() {
        let health = Health::default();
        let topic = Seldom::new(health.clone(), "topic");
        topic.ready();
        assert!(topic.is_ready() && health.readiness().dependencies.is_empty());
        topic.unready("gone");
        assert!(!topic.is_ready() && !health.readiness().ready);
        topic.ready();
        topic.unready("gone");
        assert_eq!(health.readiness().dependencies.len(), 1);
    }
}
