//! Answers of the offline API that are not as asked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::evidence::Sign;
use testkit::randomuser::{Fault, Outcome};

/// So many requests are answered so.
const TIMES: u32 = 2;
/// For somebody to ask: a run is ordered every few seconds, but whoever makes it may be away for a while.
const DEADLINE: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(100);

impl Scene<'_> {
    /// Lasts until the API's journal tells that a request was answered so.
    pub(super) async fn answer_badly(&self, fault: &Fault) -> Effect {
        let (began, before) = (self.now(), self.answered(fault));
        self.venue.api.inject(fault.clone(), TIMES);
        let until = Instant::now() + DEADLINE;
        while self.answered(fault) <= before && Instant::now() < until {
            sleep(POLL).await;
        }
        if self.answered(fault) <= before {
            let told = format!("API: {fault}: nobody asked within {} s", DEADLINE.as_secs());
            self.crew.is_without_effect(told);
        }
        Effect {
            signs: signs_of(fault),
            faint: true,
            ..self.effect(began)
        }
    }

    fn answered(&self, fault: &Fault) -> usize {
        let requests = self.venue.api.requests();
        let so = |outcome: &Outcome| matches!(outcome, Outcome::Faulted(it) if it == fault);
        requests.iter().filter(|request| so(&request.outcome)).count()
    }
}

/// Where an answer of the API that is not as asked has to show; `BrokenRecord` and `DuplicateUuids` are whole replies.
fn signs_of(fault: &Fault) -> Vec<Sign> {
    match fault {
        Fault::BrokenRecord(_) => vec![Sign::Rose("ingester_users_invalid_total")],
        Fault::DuplicateUuids => vec![Sign::Rose("ingester_users_duplicate_total")],
        _ => vec![
            Sign::Rose("ingester_retries_total{upstream=\"source\"}"),
            Sign::Rose("ingester_rate_limited_seconds_total"),
        ],
    }
}
