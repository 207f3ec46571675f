//! What a round must have done to count.

use crate::evidence::{Demands, Who};
use crate::fault::{Fault, Planned};

/// What each round has to have done at least, at a tenth or so of what it does.
pub(super) fn demands(plan: &[Planned]) -> Demands {
    let rebalances = plan.iter().any(|planned| planned.fault.rebalances(planned.lasts));
    Demands {
        acknowledged: 500,
        versions: 100,
        letters: 10,
        faults: plan.len(),
        rebalances: usize::from(rebalances),
        runs: 1,
        samples: 4,
        lettered_samples: 2,
        all_read: reads_again(plan),
        looks: 5,
        // Seven at the beginning: the publisher's to Kafka, each streamer's to Kafka and to Cassandra. Three nodes of
        // Cassandra have no proxy, which leaves four.
        connections: 4,
    }
}

/// Whether a streamer is killed, and nothing keeps its count of what it read from being known. It is heard right before it
/// is killed, and what it reads after that it can't have checkpointed. Who stops in good order may have; a process that
/// dies by itself tells nobody; and an operator's work on topic and table has it read less, or more.
fn reads_again(plan: &[Planned]) -> bool {
    let kills = plan.iter().any(|planned| {
        matches!(
            planned.fault,
            Fault::Kill(Who::Streamer(_)) | Fault::CrashLoop(Who::Streamer(_), _) | Fault::KillAll
        )
    });
    let is_counted = |planned: &Planned| {
        matches!(planned.fault.class(), 1..=3 | 6)
            && !matches!(
                planned.fault,
                Fault::Moment(..) | Fault::Terminate(Who::Streamer(_))
            )
    };
    kills && plan.iter().all(is_counted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn all_that_was_read_is_known_where_a_streamer_is_killed_and_nothing_else_hides_it() {
        let asked = |name| reads_again(&scenario::named(name).unwrap().plan);
        assert!(asked("kills") && asked("all-at-once") && asked("crash-loops"));
        for name in [
            "moments",
            "terminations",
            "topic-cut",
            "broker-killed",
            "partitions-added",
        ] {
            assert!(!asked(name), "{name}");
        }
    }
}
