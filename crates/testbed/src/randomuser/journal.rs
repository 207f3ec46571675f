//! What was asked and how it was answered, for tests and scripts to look at.

use std::collections::VecDeque;

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
    requests: VecDeque<ServedRequest>,
}

impl Journal {
    /// Older requests are forgotten.
    const CAPACITY: usize = 10_000;

    pub(super) fn note(&mut self, request: ServedRequest) {
        if self.requests.len() == Self::CAPACITY {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    pub(super) fn requests(&self) -> Vec<ServedRequest> {
        self.requests.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_forgets_its_oldest_requests() {
        let mut journal = Journal::default();
        for users in 0..=Journal::CAPACITY {
            journal.note(ServedRequest {
                path: "/api/".into(),
                query: String::new(),
                outcome: Outcome::Served { users },
            });
        }
        let requests = journal.requests();
        assert_eq!(requests.len(), Journal::CAPACITY);
        assert_eq!(requests[0].outcome, Outcome::Served { users: 1 });
    }
}
