//! Proves that the campaign can fail: services with one deliberate bug each must be caught.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::campaign::{Campaign, CampaignError};
use super::disk::remove_orphans;
use super::laws::Law::{self, *};
use super::laws::Violation;
use super::report::Report;
use super::round::Order;
use super::scenario;
use super::venue::Venue;
use testkit::workspace;

/// A deliberate bug, and the scenarios that are played, one after the other and again, until a law tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// As the services know it.
    pub name: &'static str,
    /// What is wrong.
    pub says: &'static str,
    /// The laws that it breaks: what any other law says is no proof.
    pub by: &'static [Law],
    /// Where it has to show.
    pub scenarios: &'static [&'static str],
}

/// All of them.
pub const BUGS: [Bug; 9] = [
    bug(
        "commit_before_write",
        "a checkpoint covers rows that are still being written",
        &[CheckpointIsPrefix, NothingIsSkipped],
        &["node-frozen", "kills"],
    ),
    bug(
        "checkpoint_not_prefixed",
        "a finished batch counts for those before it, too",
        &[CheckpointIsPrefix, NothingIsSkipped],
        &["node-frozen", "late"],
    ),
    bug(
        "retry_swallowed",
        "a failed write counts as a written row",
        &[NothingIsSkipped, LastRecordIsRow, CheckpointIsPrefix],
        &["node-frozen", "node-killed"],
    ),
    bug(
        "dead_letter_not_awaited",
        "a dead letter counts before Kafka has it",
        &[NothingIsSkipped, CheckpointIsPrefix],
        &["broker-frozen", "all-at-once"],
    ),
    bug(
        "acknowledged_before_kafka",
        "the publisher answers before Kafka does",
        &[AcknowledgedIsInTopic, HistoryIsInTopic],
        &["killed-behind-a-frozen-broker", "kills"],
    ),
    bug(
        "wall_clock_stamp",
        "the writer's clock is the write timestamp",
        &[LogDecidesStamp],
        &["kills"],
    ),
    bug(
        "session_kept",
        "the session is kept after a deadline",
        &[FreshRecordFlows, CheckpointIsEnd, ReadyTurnsTrue],
        &["cassandra-half-open", "cassandra-cut"],
    ),
    bug(
        "zombie_not_fenced",
        "a member whose partitions are lost goes on",
        &[CheckpointOnlyRises],
        &["freezes", "kafka-cut"],
    ),
    bug(
        "group_commit_as_start",
        "the group's own offsets are where reading begins",
        &[NothingIsSkipped, CheckpointIsPrefix],
        &["foreign-commit"],
    ),
];

const fn bug(
    name: &'static str,
    says: &'static str,
    by: &'static [Law],
    scenarios: &'static [&'static str],
) -> Bug {
    Bug {
        name,
        says,
        by,
        scenarios,
    }
}

/// So many rounds at most for each.
const PATIENCE: u64 = 6;

/// What became of a bug.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The bug.
    pub bug: &'static str,
    /// The laws that told of it and had to; empty, when none did.
    pub laws: Vec<String>,
    /// What else was told in that round.
    pub besides: Vec<String>,
    /// In which scenario.
    pub scenario: &'static str,
    /// After how many rounds.
    pub rounds: u64,
    /// Rounds with the same services, scenario and seed and without the bug that did not hold: they prove nothing.
    pub failed_controls: u64,
}

impl Proof {
    /// Whether the bug was caught, and nothing but the bug.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.laws.is_empty() && self.failed_controls == 0
    }
}

/// What was violated, split into what has to be and what else there is.
fn split(violations: &[Violation], by: &[Law]) -> (Vec<String>, Vec<String>) {
    let laws: BTreeSet<_> = violations.iter().map(|violation| violation.law).collect();
    let (due, besides): (Vec<_>, Vec<_>) = laws.into_iter().partition(|law| by.contains(law));
    let names = |laws: Vec<Law>| laws.iter().map(ToString::to_string).collect();
    (names(due), names(besides))
}

impl Campaign {
    /// Plays rounds with each bug, or with those of these names, until it is caught; before each a control round, the same
    /// without the bug. All of them are in a report of their own, in the folder `prove`.
    ///
    /// # Errors
    /// When there are no servers, or the report can't be written.
    pub async fn prove(&self, only: &[String]) -> Result<Vec<Proof>, CampaignError> {
        remove_orphans(&workspace::target_dir()?);
        let campaign = Self {
            out: self.out.join("prove"),
            ..self.clone()
        };
        let (mut stage, mut proofs) = (Stage::default(), Vec::new());
        let known = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
        for bug in BUGS.iter().filter(|bug| known(bug.name)) {
            eprintln!("{}: {}", bug.name, bug.says);
            let proof = campaign.catch(bug, &mut stage).await?;
            eprintln!("{proof:?}");
            proofs.push(proof);
        }
        Ok(proofs)
    }

    async fn catch(&self, bug: &Bug, stage: &mut Stage) -> Result<Proof, CampaignError> {
        let mut proof = Proof {
            bug: bug.name,
            laws: Vec::new(),
            besides: Vec::new(),
            scenario: "",
            rounds: 0,
            failed_controls: 0,
        };
        for (round, name) in (1..=PATIENCE).zip(bug.scenarios.iter().cycle()) {
            let scenario =
                scenario::named(name).ok_or_else(|| CampaignError::NoScenario((*name).to_owned()))?;
            let order = self.order(scenario, self.seed.wrapping_add(round), Some(bug.name))?;
            (proof.scenario, proof.rounds) = (name, round);
            if !self.is_right_without_bug(&order, stage).await? {
                proof.failed_controls += 1;
                continue;
            }
            let played = self.play(&mut stage.venue, &order, &mut stage.report).await?;
            let violations = played.map_or(&[][..], |round| &round.violations);
            (proof.laws, proof.besides) = split(violations, bug.by);
            if !proof.laws.is_empty() {
                break;
            }
        }
        Ok(proof)
    }

    /// Several bugs have the same control round, which is played once.
    async fn is_right_without_bug(&self, order: &Order, stage: &mut Stage) -> Result<bool, CampaignError> {
        let key = (order.scenario.name, order.seed);
        if let Some(known) = stage.controls.get(&key) {
            return Ok(*known);
        }
        let control = Order {
            bug: None,
            ..order.clone()
        };
        eprintln!("the control, without the bug");
        let played = self.play(&mut stage.venue, &control, &mut stage.report).await?;
        let holds = played.is_some_and(|round| round.violations.is_empty());
        stage.controls.insert(key, holds);
        Ok(holds)
    }
}

/// What the rounds of a proof share.
#[derive(Default)]
struct Stage {
    venue: Option<Venue>,
    report: Report,
    /// Whether each control round held.
    controls: BTreeMap<(&'static str, u64), bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_scenario_that_is_there_and_a_law_that_tells_of_it() {
        for bug in BUGS {
            assert!(!bug.by.is_empty(), "{}", bug.name);
            for name in bug.scenarios {
                assert!(scenario::named(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn what_another_law_says_is_no_proof() {
        let violations = [CheckpointIsPrefix, FaultShows].map(|law| Violation::new(law, "it", "is so"));
        let (due, besides) = split(&violations, &[CheckpointIsPrefix]);
        assert_eq!(
            (due, besides),
            (
                vec!["checkpoint_is_prefix".to_owned()],
                vec!["fault_shows".to_owned()]
            )
        );
        assert_eq!(
            split(&violations[1..], &[CheckpointIsPrefix]).0,
            Vec::<String>::new()
        );
    }
}
