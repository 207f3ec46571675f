//! Mutation test of the campaign: each failpoint of the services must violate an invariant that it concerns.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Serialize;
use testkit::workspace;

use super::runner::{Campaign, find};
use crate::cluster::Cluster;
use crate::cluster::small_disk::remove_orphans;
use crate::invariants::{
    Invariant::{self, *},
    InvariantViolation,
};
use crate::report::Report;
use crate::scenario::RoundSpec;

/// A failpoint that breaks a service, and the rounds that must detect it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutation {
    /// The failpoint's name.
    pub(crate) name: &'static str,
    description: &'static str,
    /// The invariants that must be violated; others do not count.
    detected_by: &'static [Invariant],
    /// Played in this order, repeatedly.
    scenarios: &'static [&'static str],
}

const fn mutation(
    name: &'static str,
    description: &'static str,
    detected_by: &'static [Invariant],
    scenarios: &'static [&'static str],
) -> Mutation {
    Mutation {
        name,
        description,
        detected_by,
        scenarios,
    }
}

pub(crate) const MUTATIONS: [Mutation; 11] = [
    mutation(
        "commit_before_write",
        "a checkpoint covers rows before they are written",
        &[CheckpointNotAhead, NoRecordSkipped],
        &["node-frozen", "kills"],
    ),
    mutation(
        "checkpoint_not_prefixed",
        "a completed batch also completes the batches before it",
        &[CheckpointNotAhead, NoRecordSkipped],
        &["node-frozen", "latency"],
    ),
    mutation(
        "retry_swallowed",
        "a failed write counts as written",
        &[NoRecordSkipped, RowIsLastRecord, CheckpointNotAhead],
        &["node-frozen", "node-killed"],
    ),
    mutation(
        "dead_letter_not_awaited",
        "a dead letter counts before Kafka acknowledges it",
        &[NoRecordSkipped, CheckpointNotAhead],
        &["broker-frozen", "all-at-once"],
    ),
    mutation(
        "acknowledged_before_kafka",
        "the publisher responds before Kafka acknowledges",
        &[AckedRecordInTopic, RunHistoryInTopic],
        &["killed-behind-a-frozen-broker", "kills"],
    ),
    mutation(
        "wall_clock_stamp",
        "the write timestamp is the streamer's clock",
        &[WriteTimestampFromLog],
        &["kills"],
    ),
    mutation(
        "session_kept",
        "a session is reused after a timeout",
        &[RecoveryInTime, CheckpointAtEnd, ReadyAfterRecovery],
        &["cassandra-half-open", "cassandra-cut"],
    ),
    mutation(
        "zombie_not_fenced",
        "a member keeps writing after it has lost its partitions",
        &[CheckpointMonotonic],
        &["freezes", "kafka-cut"],
    ),
    mutation(
        "group_commit_as_start",
        "reading starts at the group's committed offsets",
        &[NoRecordSkipped, CheckpointNotAhead],
        &["foreign-commit"],
    ),
    mutation(
        "segment_after_checkpoint",
        "a segment of the run ledger is written after its checkpoint",
        &[RunConserved],
        &["kills", "crash-loops"],
    ),
    mutation(
        "number_left_out",
        "the run ledger lacks a number of a partition that is revoked",
        &[RunConserved],
        &["rebalance-storm", "terminations"],
    ),
];

/// Rounds for each mutation, at most.
const MAX_ROUNDS: u64 = 6;

/// Whether a mutation was detected.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MutationResult {
    mutation: &'static str,
    /// The violated invariants that concern the mutation.
    invariants: Vec<String>,
    /// Other violated invariants of the same round.
    other_invariants: Vec<String>,
    scenario: &'static str,
    /// Rounds with the mutation until its detection.
    rounds: u64,
    /// Violated rounds with the same scenario and seed without the mutation.
    failed_controls: u64,
}

impl MutationResult {
    /// Whether the mutation, and only the mutation, was detected.
    pub(crate) fn is_detected(&self) -> bool {
        !self.invariants.is_empty() && self.failed_controls == 0
    }
}

/// Splits the violated invariants into those that concern the mutation, and others.
fn split(violations: &[InvariantViolation], concerned: &[Invariant]) -> (Vec<String>, Vec<String>) {
    let violated: BTreeSet<_> = violations.iter().map(|violation| violation.invariant).collect();
    let (due, others): (Vec<_>, Vec<_>) = violated.into_iter().partition(|it| concerned.contains(it));
    let names = |invariants: Vec<Invariant>| invariants.iter().map(ToString::to_string).collect();
    (names(due), names(others))
}

impl Campaign {
    /// Plays rounds with each mutation, or with those of these names, until it is detected. A control round without the
    /// mutation precedes each. Their report is in the folder `mutations`.
    pub(crate) async fn test_mutations(&self, only: &[String]) -> Result<Vec<MutationResult>> {
        remove_orphans(&workspace::target_dir()?);
        let campaign = Self {
            out: self.out.join("mutations"),
            ..self.clone()
        };
        let (mut state, mut results) = (MutationState::default(), Vec::new());
        let is_selected = |name: &str| only.is_empty() || only.iter().any(|selected| selected == name);
        for mutation in MUTATIONS.iter().filter(|mutation| is_selected(mutation.name)) {
            eprintln!("{}: {}", mutation.name, mutation.description);
            let result = campaign.test_mutation(mutation, &mut state).await?;
            eprintln!("{result:?}");
            results.push(result);
        }
        Ok(results)
    }

    async fn test_mutation(&self, mutation: &Mutation, state: &mut MutationState) -> Result<MutationResult> {
        let mut result = MutationResult {
            mutation: mutation.name,
            invariants: Vec::new(),
            other_invariants: Vec::new(),
            scenario: "",
            rounds: 0,
            failed_controls: 0,
        };
        for (round, name) in (1..=MAX_ROUNDS).zip(mutation.scenarios.iter().cycle()) {
            let seed = self.seed.wrapping_add(round);
            let spec = self.spec(find(name)?, seed, Some(mutation.name))?;
            (result.scenario, result.rounds) = (name, round);
            if !self.control_passes(&spec, state).await? {
                result.failed_controls += 1;
                continue;
            }
            let played = self.play(&mut state.cluster, &spec, &mut state.report).await?;
            let violations = played.map_or(&[][..], |round| &round.violations);
            (result.invariants, result.other_invariants) = split(violations, mutation.detected_by);
            if !result.invariants.is_empty() {
                break;
            }
        }
        Ok(result)
    }

    /// Plays the control round once for all mutations that share it.
    async fn control_passes(&self, spec: &RoundSpec, state: &mut MutationState) -> Result<bool> {
        let key = (spec.scenario.name, spec.seed);
        if let Some(known) = state.controls.get(&key) {
            return Ok(*known);
        }
        let control = RoundSpec {
            mutation: None,
            ..spec.clone()
        };
        eprintln!("control round without the mutation");
        let played = self.play(&mut state.cluster, &control, &mut state.report).await?;
        let passes = played.is_some_and(|round| round.violations.is_empty());
        state.controls.insert(key, passes);
        Ok(passes)
    }
}

/// Shared by the rounds of a mutation test.
#[derive(Default)]
struct MutationState {
    cluster: Option<Cluster>,
    report: Report,
    /// Whether each control round passed.
    controls: BTreeMap<(&'static str, u64), bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_has_scenarios_and_invariants() {
        for mutation in MUTATIONS {
            assert!(!mutation.detected_by.is_empty(), "{}", mutation.name);
            for name in mutation.scenarios {
                assert!(find(name).is_ok(), "{name}");
            }
        }
    }

    #[test]
    fn other_invariants_do_not_detect_a_mutation() {
        let violations = [CheckpointNotAhead, FaultObservable];
        let violations = violations.map(|invariant| InvariantViolation::new(invariant, "it", "is so"));
        let (due, others) = split(&violations, &[CheckpointNotAhead]);
        assert_eq!(
            (due, others),
            (
                vec!["checkpoint_not_ahead".to_owned()],
                vec!["fault_observable".to_owned()]
            )
        );
        assert_eq!(
            split(&violations[1..], &[CheckpointNotAhead]).0,
            Vec::<String>::new()
        );
    }
}
