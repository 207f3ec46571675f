//! Proves that the campaign can fail: services with one deliberate bug each must be caught.

use serde::Serialize;

use super::campaign::{Campaign, CampaignError};
use super::report::Report;
use super::scenario;

/// A deliberate bug, and the scenarios that are played, one after the other and again, until a law tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// As the services know it.
    pub name: &'static str,
    /// What is wrong.
    pub says: &'static str,
    /// Where it has to show.
    pub scenarios: &'static [&'static str],
}

/// All of them.
pub const BUGS: [Bug; 9] = [
    bug(
        "commit_before_write",
        "a checkpoint covers rows that are still being written",
        &["node-frozen", "kills"],
    ),
    bug(
        "checkpoint_not_prefixed",
        "a finished batch counts for those before it, too",
        &["node-frozen", "late"],
    ),
    bug(
        "retry_swallowed",
        "a failed write counts as a written row",
        &["node-frozen", "node-killed"],
    ),
    bug(
        "dead_letter_not_awaited",
        "a dead letter counts before Kafka has it",
        &["broker-frozen", "all-at-once"],
    ),
    bug(
        "acknowledged_before_kafka",
        "the publisher answers before Kafka does",
        &["killed-behind-a-frozen-broker", "kills"],
    ),
    bug(
        "wall_clock_stamp",
        "the writer's clock is the write timestamp",
        &["kills"],
    ),
    bug(
        "session_kept",
        "the session is kept after a deadline",
        &["cassandra-half-open", "cassandra-cut"],
    ),
    bug(
        "zombie_not_fenced",
        "a member whose partitions are lost goes on",
        &["freezes", "kafka-cut"],
    ),
    bug(
        "group_commit_as_start",
        "the group's own offsets are where reading begins",
        &["foreign-commit"],
    ),
];

const fn bug(name: &'static str, says: &'static str, scenarios: &'static [&'static str]) -> Bug {
    Bug {
        name,
        says,
        scenarios,
    }
}

/// So many rounds at most for each.
const PATIENCE: usize = 6;

/// What became of a bug.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// The bug.
    pub bug: &'static str,
    /// The laws that told of it; empty, when none did.
    pub laws: Vec<String>,
    /// In which scenario.
    pub scenario: &'static str,
    /// After how many rounds.
    pub rounds: usize,
}

impl Campaign {
    /// Plays rounds with each bug, or with the one of this name, until it is caught; the rounds are in the report, too.
    ///
    /// # Errors
    /// When a round can't be played.
    pub async fn prove(&self, only: &[String]) -> Result<(Vec<Proof>, Report), CampaignError> {
        let (mut venue, mut report, mut proofs) = (None, Report::default(), Vec::new());
        for bug in BUGS
            .iter()
            .filter(|bug| only.is_empty() || only.iter().any(|name| name == bug.name))
        {
            eprintln!("{}: {}", bug.name, bug.says);
            let mut proof = Proof {
                bug: bug.name,
                laws: Vec::new(),
                scenario: "",
                rounds: 0,
            };
            for (round, name) in (1..=PATIENCE).zip(bug.scenarios.iter().cycle()) {
                let scenario =
                    scenario::named(name).ok_or_else(|| CampaignError::NoScenario((*name).to_owned()))?;
                let seed = self.seed.wrapping_add(round as u64);
                let order = self.order(scenario, seed, Some(bug.name))?;
                let played = self.play(&mut venue, &order).await?;
                let laws = played
                    .violations
                    .iter()
                    .map(|violation| violation.law.to_string());
                let laws: std::collections::BTreeSet<_> = laws.collect();
                (proof.laws, proof.scenario, proof.rounds) = (laws.into_iter().collect(), name, round);
                report.rounds.push(played);
                report.write(&self.out)?;
                if !proof.laws.is_empty() {
                    break;
                }
            }
            eprintln!(
                "{}: round {} of {}: {:?}",
                bug.name, proof.rounds, proof.scenario, proof.laws
            );
            proofs.push(proof);
        }
        Ok((proofs, report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_scenario_that_is_there() {
        for name in BUGS.iter().flat_map(|bug| bug.scenarios) {
            assert!(scenario::named(name).is_some(), "{name}");
        }
    }
}
