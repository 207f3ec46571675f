//! What was asked and how it was answered, for tests and scripts to look at.

use std::collections::VecDeque;
use std::time::Instant;

use serde::Serialize;

use super::fault::Fault;

/// One request of the API and its outcome, noted before the reply is sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServedRequest {
    /// The path as sent: `/api/1.4/`.
    pub path: String,
    /// The query as sent, still encoded; empty without one.
    pub query: String,
    /// How it was answered.
    pub outcome: Outcome,
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In full and in order, with so many users.
    Served {
        /// Users in the reply.
        users: usize,
    },
    /// Refused, the budget of its address being spent.
    OverBudget,
    /// With a fault.
    Faulted(Fault),
    /// The path or format does not exist.
    NotOffered,
}

/// The latest requests.
#[derive(Debug, Default)]
pub(super) struct Journal {
    requests: VecDeque<(Instant, ServedRequest)>,
}

impl Journal {
    /// Older requests are forgotten.
    const CAPACITY: usize = 10_000;

    pub(super) fn note(&mut self, at: Instant, request: ServedRequest) {
        if self.requests.len() == Self::CAPACITY {
            self.requests.pop_front();
        }
        self.requests.push_back((at, request));
    }

    pub(super) fn requests(&self) -> Vec<ServedRequest> {
        self.requests.iter().map(|(_, request)| request.clone()).collect()
    }

    /// When the first request since then came, of those that are remembered.
    pub(super) fn first_since(&self, then: Instant) -> Option<Instant> {
        let times = self.requests.iter().map(|(at, _)| *at);
        times.filter(|at| *at >= then).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn served(users: usize) -> ServedRequest {
        ServedRequest {
            path: "/api/".into(),
            query: String::new(),
            outcome: Outcome::Served { users },
        }
    }

    #[test]
    fn the_first_request_since_a_moment_is_found() {
        let (mut journal, start) = (Journal::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        for millis in [10, 20, 30] {
            journal.note(at(millis), served(1));
        }
        assert_eq!(journal.first_since(at(15)), Some(at(20)));
        assert_eq!(journal.first_since(at(31)), None);
    }

    #[test]
    fn the_journal_forgets_its_oldest_requests() {
        let (mut journal, now) = (Journal::default(), Instant::now());
        for users in 0..=Journal::CAPACITY {
            journal.note(now, served(users));
        }
        let requests = journal.requests();
        assert_eq!(requests.len(), Journal::CAPACITY);
        assert_eq!(requests[0].outcome, Outcome::Served { users: 1 });
    }
}
