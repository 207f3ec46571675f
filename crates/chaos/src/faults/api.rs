//! Wrong responses of the offline API.

use std::time::Duration;

use testkit::randomuser::{Fault, ServedOutcome};
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector};
use crate::evidence::incident::ExpectedSignal;

/// Wrong responses for each fault.
const RESPONSES: u32 = 2;
/// For a request: runs start every few seconds, but the ingester may be down.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(100);

impl FaultInjector<'_> {
    /// Lasts until the API's journal contains a wrong response.
    pub(super) async fn api_responses(&self, fault: &Fault) -> FaultEffect {
        let (started, before) = (self.now(), self.wrong_responses(fault));
        self.cluster.api.inject(fault.clone(), RESPONSES);
        let until = Instant::now() + REQUEST_TIMEOUT;
        while self.wrong_responses(fault) <= before && Instant::now() < until {
            sleep(POLL).await;
        }
        if self.wrong_responses(fault) <= before {
            let seconds = REQUEST_TIMEOUT.as_secs();
            let text = format!("API: {fault}: no request within {seconds} s");
            self.services.ineffective_fault(text);
        }
        FaultEffect {
            signals: signals(fault),
            only_if_alone: true,
            ..self.effect(started)
        }
    }

    fn wrong_responses(&self, fault: &Fault) -> usize {
        let requests = self.cluster.api.requests();
        let matches = |outcome: &ServedOutcome| matches!(outcome, ServedOutcome::Faulted(it) if it == fault);
        requests
            .iter()
            .filter(|request| matches(&request.outcome))
            .count()
    }
}

/// `BrokenRecord` and `DuplicateUuids` are complete responses, which the ingester does not retry.
fn signals(fault: &Fault) -> Vec<ExpectedSignal> {
    match fault {
        Fault::BrokenRecord(_) => vec![ExpectedSignal::Rose("ingester_users_invalid_total")],
        Fault::DuplicateUuids => vec![ExpectedSignal::Rose("ingester_users_duplicate_total")],
        _ => vec![
            ExpectedSignal::Rose("ingester_retries_total{upstream=\"source\"}"),
            ExpectedSignal::Rose("ingester_rate_limited_seconds_total"),
        ],
    }
}
