//! Whether the consumer can join its group. The consumer thread reports, and the health probe reads.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The consumer's membership in its group.
#[derive(Debug, Default)]
pub struct GroupMembership {
    join_error: Mutex<Option<String>>,
}

/// The beginning of librdkafka's message about a join that the coordinator rejects.
const JOIN_FAILED: &str = "JoinGroup failed";

impl GroupMembership {
    /// The error of the last attempt to join, unless the consumer is a member.
    pub fn join_error(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Records an error of the client, and returns whether it was about joining the group.
    pub(super) fn failed(&self, reason: &str) -> bool {
        let is_join = reason.starts_with(JOIN_FAILED);
        if is_join {
            *self.lock() = Some(reason.to_owned());
        }
        is_join
    }

    /// Records that the consumer has got an assignment, which may be empty.
    pub(super) fn joined(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.join_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_join_is_kept_until_the_consumer_is_a_member() {
        let membership = GroupMembership::default();
        assert!(!membership.failed("Commit failed: timed out"));
        assert_eq!(membership.join_error(), None);
        assert!(membership.failed("JoinGroup failed: Broker: Invalid session timeout"));
        assert!(membership.join_error().unwrap().contains("session timeout"));
        membership.joined();
        assert_eq!(membership.join_error(), None);
    }
}
