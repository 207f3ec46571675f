//! What a round must have done to count.

use crate::evidence::RequiredCoverage;
use crate::scenario::RoundSpec;
use crate::scenario::fault::{Fault, FaultClass, PlannedFault};
use crate::service_id::ServiceId;

/// About a tenth of what a round usually does.
pub(super) fn required(spec: &RoundSpec) -> RequiredCoverage {
    let plan = &spec.scenario.plan;
    let rebalances = plan
        .iter()
        .any(|planned| planned.fault.rebalances(planned.duration));
    RequiredCoverage {
        acked: 500,
        versions: 100,
        dead_letters: 10,
        expired: if spec.record.is_users() { 0 } else { 2 },
        faults: plan.len(),
        rebalances: usize::from(rebalances),
        runs: usize::from(spec.record.is_users()),
        numbered: 200,
        checkpoint_samples: 4,
        dead_letter_samples: 2,
        all_read: counts_every_read(plan),
        health_samples: 5,
        // At the start there are seven: the publisher's to Kafka, and each streamer's to Kafka and to Cassandra. A
        // Cassandra cluster has no proxy, which leaves four.
        proxy_connections: 4,
    }
}

/// Whether a streamer is killed, and every count of read records is known. The count is sampled right before a kill, and
/// records read later are not checkpointed. A termination checkpoints them, a crash is not sampled, and an operator's
/// work on topic and table changes what is read.
fn counts_every_read(plan: &[PlannedFault]) -> bool {
    use FaultClass::{Input, Network, Process, Server};
    let kills = plan.iter().any(|planned| {
        matches!(
            planned.fault,
            Fault::Kill(ServiceId::Streamer(_))
                | Fault::CrashLoop(ServiceId::Streamer(_), _)
                | Fault::KillAll
        )
    });
    let is_counted = |planned: &PlannedFault| {
        matches!(planned.fault.class(), Process | Server | Network | Input)
            && !matches!(
                planned.fault,
                Fault::CrashPoint(..) | Fault::Terminate(ServiceId::Streamer(_))
            )
    };
    kills && plan.iter().all(is_counted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::catalog;

    #[test]
    fn every_read_counts_if_only_kills_interrupt_reading() {
        let counts = |name| counts_every_read(&catalog::find(name).unwrap().plan);
        assert!(counts("kills") && counts("all-at-once") && counts("crash-loops"));
        for name in [
            "crash-points",
            "terminations",
            "topic-truncated",
            "broker-killed",
            "partitions-added",
        ] {
            assert!(!counts(name), "{name}");
        }
    }
}
