//! The laws: evidence in, violations out. Pure; it asks nobody and waits for nothing.
//!
//! What a row, its write timestamp and a dead letter must be is stated here anew, and simply, from the log alone
//! (`log`); the streamer's own code is not used.

mod health;
mod log;
mod progress;
mod signs;
mod stored;
mod watched;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;

pub(crate) use stored::{place_of, print};
pub use watched::{MEMORY_BOUNDS, PATIENCE};

/// What has to hold in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// Every acknowledged record is in the topic, where its acknowledgement says.
    AcknowledgedIsInTopic,
    /// Of every run, the topic holds as many records as the ingester's history says.
    HistoryIsInTopic,
    /// The publisher's answers say of each record what it was.
    AnswersAreTrue,
    /// Every record in the topic is a row or a dead letter.
    NothingIsSkipped,
    /// Every row is, byte for byte, its user's last valid record in the log.
    LastRecordIsRow,
    /// Every column of a row is written at the timestamp that the log gives to its record.
    LogDecidesStamp,
    /// Nothing is in topic or table that was never sent.
    NothingFromNowhere,
    /// A dead letter is an invalid record, whole, with its place and its reason.
    LettersAreRight,
    /// The checkpoint is never ahead of the durable prefix.
    CheckpointIsPrefix,
    /// No checkpoint moves back.
    CheckpointOnlyRises,
    /// At the end the checkpoint is the end.
    CheckpointIsEnd,
    /// A fresh record flows soon after the last fault.
    FreshRecordFlows,
    /// Each process stays below its bound of memory.
    MemoryIsBounded,
    /// Every fault shows in what the processes tell of themselves, and has an effect where it is done.
    FaultShows,
    /// Work goes on where one server of three is away.
    WorkGoesOn,
    /// Readiness turns false soon after a dependency is lost.
    ReadyTurnsFalse,
    /// Readiness turns true soon after it is back.
    ReadyTurnsTrue,
    /// Liveness never fails.
    AliveThroughout,
    /// No process ends unless it is told to, and then in good order.
    EndsOnlyWhenTold,
    /// No client walks around a proxy.
    NobodyWalksAround,
    /// The round stressed something.
    NotVacuous,
}

impl fmt::Display for Law {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name that the report has for it, too.
        self.serialize(out)
    }
}

/// A law that did not hold, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The law.
    pub law: Law,
    /// Which record, row, process or fault.
    pub of: String,
    /// What was found.
    pub found: String,
}

impl Violation {
    pub(crate) fn new(law: Law, of: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            law,
            of: of.into(),
            found: found.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.law, self.of, self.found)
    }
}

/// How many records of the log must be dead letters.
#[must_use]
pub fn letters_of(evidence: &Evidence) -> usize {
    log::Log::of(evidence).letters()
}

/// How many rebalances were counted.
#[must_use]
pub fn rebalances_of(evidence: &Evidence) -> usize {
    watched::rebalances(evidence)
}

/// How many records the streamers read that they, or others, had read before.
#[must_use]
pub fn read_again_of(evidence: &Evidence) -> usize {
    watched::records_read(evidence).saturating_sub(evidence.log.len())
}

/// How many violations of one law are told; a topic that is lost whole would fill the report.
const MOST_OF_ONE_LAW: usize = 5;

/// Holds a round to every law.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let log = log::Log::of(evidence);
    let found = [
        stored::acknowledged(evidence),
        stored::history(evidence),
        stored::records(evidence, &log),
        stored::rows(evidence, &log),
        stored::letters(evidence, &log),
        progress::prefix(evidence, &log),
        progress::rising(evidence),
        progress::end(evidence),
        watched::fresh(evidence),
        watched::memory(evidence),
        watched::goes_on(evidence),
        watched::noted(evidence),
        signs::signs(evidence),
        health::readiness(evidence),
        health::liveness(evidence),
        health::ends(evidence),
        watched::stress(evidence, &log),
    ];
    let mut told = std::collections::BTreeMap::new();
    found
        .into_iter()
        .flatten()
        .filter(|violation| {
            let count = told.entry(violation.law).or_insert(0);
            *count += 1;
            *count <= MOST_OF_ONE_LAW
        })
        .collect()
}

#[cfg(test)]
mod tests;
