//! The result of a campaign as JSON, and as an SVG with a tile for each round. Reports can be merged.

pub(crate) mod round;
mod timeline;
mod wall;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use self::round::RoundReport;
use self::wall::wall;

/// A campaign, or a part of one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The rounds with a verdict, in the order of play.
    pub rounds: Vec<RoundReport>,
    /// Planned rounds.
    pub(crate) planned: usize,
    /// Rounds without a verdict.
    pub not_played: Vec<NotPlayed>,
    /// Scenarios that this machine cannot play.
    pub(crate) skipped: Vec<Skipped>,
}

/// A round that failed before its verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotPlayed {
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) reason: String,
    /// The folder of its logs.
    pub(crate) logs: Option<PathBuf>,
}

/// A scenario that this machine cannot play.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) scenario: String,
    pub(crate) reason: String,
}

/// The last line of output.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) rounds: usize,
    /// Distinct scenarios; random rounds are one.
    pub(crate) scenarios: usize,
    pub(crate) acknowledged: usize,
    pub(crate) violations: usize,
    /// Planned rounds without a verdict: they failed, or the time budget was spent.
    pub(crate) not_played: usize,
    /// Scenarios that this machine cannot play.
    pub(crate) skipped: Vec<String>,
    pub(crate) seed: u64,
}

impl Summary {
    /// Whether every planned round was played without a violation.
    pub(crate) fn passed(&self) -> bool {
        self.violations == 0 && self.not_played == 0 && self.rounds > 0
    }
}

impl Report {
    /// Joins reports. Paths of logs are dropped, and so are unplayed rounds of a spent budget and skipped scenarios that
    /// another part has played.
    pub(crate) fn merge(reports: impl IntoIterator<Item = Self>) -> Self {
        let mut merged = Self::default();
        for report in reports {
            merged.rounds.extend(report.rounds);
            merged.not_played.extend(report.not_played);
            merged.skipped.extend(report.skipped);
        }
        merged.rounds.iter_mut().for_each(|round| round.logs = None);
        merged.not_played.iter_mut().for_each(|failed| failed.logs = None);
        let played: BTreeSet<_> = merged.rounds.iter().map(|round| &round.scenario).collect();
        merged
            .skipped
            .retain(|skipped| !played.contains(&skipped.scenario));
        merged
            .skipped
            .sort_by(|one, other| one.scenario.cmp(&other.scenario));
        merged
            .skipped
            .dedup_by(|one, other| one.scenario == other.scenario);
        merged.planned = merged.rounds.len() + merged.not_played.len();
        merged
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let read = || Ok::<_, anyhow::Error>(serde_json::from_slice(&std::fs::read(path)?)?);
        read().with_context(|| format!("failed to read the report {}", path.display()))
    }

    /// Writes `report.json` and `wall.svg` into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let write = || {
            std::fs::create_dir_all(folder)?;
            let json = serde_json::to_string(self)? + "\n";
            std::fs::write(folder.join("report.json"), json)?;
            std::fs::write(folder.join("wall.svg"), wall(&self.rounds))?;
            Ok::<_, anyhow::Error>(())
        };
        write().with_context(|| format!("failed to write a report to {}", folder.display()))
    }

    pub(crate) fn summary(&self, seed: u64) -> Summary {
        let scenarios: BTreeSet<_> = self.rounds.iter().map(|round| &round.scenario).collect();
        Summary {
            rounds: self.rounds.len(),
            scenarios: scenarios.len(),
            acknowledged: self.rounds.iter().map(|round| round.acknowledged).sum(),
            violations: self.rounds.iter().map(|round| round.violations.len()).sum(),
            not_played: self
                .planned
                .saturating_sub(self.rounds.len())
                .max(self.not_played.len()),
            skipped: self.skipped.iter().map(|it| it.scenario.clone()).collect(),
            seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn campaign_with_an_unplayed_round_fails() {
        let failed = || NotPlayed {
            scenario: "kills".to_owned(),
            seed: 1,
            reason: "no broker".to_owned(),
            logs: None,
        };
        let nothing = Report::default();
        assert!(!nothing.summary(1).passed());
        let cut_short = Report {
            planned: 2,
            ..Report::default()
        };
        assert_eq!(cut_short.summary(1).not_played, 2);
        let with_failed = Report {
            planned: 1,
            not_played: vec![failed()],
            ..Report::default()
        };
        assert_eq!(with_failed.summary(1).not_played, 1);
        let merged = Report::merge([cut_short, with_failed]);
        assert_eq!((merged.planned, merged.summary(1).not_played), (1, 1));
    }
}
