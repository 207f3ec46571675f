//! The log of requests and their outcomes, for tests and scripts.

use std::collections::VecDeque;
use std::time::Instant;

use serde::Serialize;

use crate::randomuser::fault::Fault;

/// A request and its outcome, logged before the response is sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServedRequest {
    /// The path as sent: `/api/1.4/`.
    pub path: String,
    /// The query as sent, percent-encoded; empty without one.
    pub query: String,
    /// The outcome.
    pub outcome: ServedOutcome,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServedOutcome {
    /// Served in full.
    Served {
        /// Users in the response.
        users: usize,
    },
    /// Refused by the rate limit.
    RateLimited,
    /// Served with a fault.
    Faulted(Fault),
    /// Refused: unknown path or format.
    NotOffered,
}

/// The latest requests, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    requests: VecDeque<(Instant, ServedRequest)>,
}

impl RequestLog {
    /// Older requests are dropped.
    const CAPACITY: usize = 10_000;

    pub(crate) fn push(&mut self, at: Instant, request: ServedRequest) {
        if self.requests.len() == Self::CAPACITY {
            self.requests.pop_front();
        }
        self.requests.push_back((at, request));
    }

    pub(crate) fn requests(&self) -> Vec<ServedRequest> {
        self.requests.iter().map(|(_, request)| request.clone()).collect()
    }

    /// The time of the first logged request since `then`.
    pub(crate) fn first_since(&self, then: Instant) -> Option<Instant> {
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
            outcome: ServedOutcome::Served { users },
        }
    }

    #[test]
    fn first_request_since_an_instant_is_found() {
        let (mut log, start) = (RequestLog::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        for millis in [10, 20, 30] {
            log.push(at(millis), served(1));
        }
        assert_eq!(log.first_since(at(15)), Some(at(20)));
        assert_eq!(log.first_since(at(31)), None);
    }

    #[test]
    fn oldest_requests_are_dropped() {
        let (mut log, now) = (RequestLog::default(), Instant::now());
        for users in 0..=RequestLog::CAPACITY {
            log.push(now, served(users));
        }
        let requests = log.requests();
        assert_eq!(requests.len(), RequestLog::CAPACITY);
        assert_eq!(requests[0].outcome, ServedOutcome::Served { users: 1 });
    }
}
