//! Plays rounds one after the other on warm servers, and keeps the logs of failed ones.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use testkit::record_type::RecordType;
use testkit::workspace;

use super::round;
use crate::cluster::Cluster;
use crate::cluster::shape::ClusterShape;
use crate::cluster::small_disk::{SmallDisk, remove_orphans};
use crate::report::round::RoundReport;
use crate::report::{NotPlayed, Report, Skipped};
use crate::scenario::fault::{DiskOwner, Fault, Link};
use crate::scenario::{RoundSpec, Scenario, catalog, random};

const NO_PREVIOUS: &str = "needs the services of the previous release; scripts/chaos builds them";
const NO_FAILPOINTS: &str = "needs services built with the feature `failpoint`; scripts/chaos builds them";

/// Which rounds to play.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of scenarios.
    pub scenarios: Vec<String>,
    /// Number of random rounds.
    pub random: u64,
    /// The servers of random rounds.
    pub shape: ClusterShape,
}

/// A campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Seeds traffic and random rounds.
    pub seed: u64,
    /// No round starts after this time.
    pub budget: Option<Duration>,
    /// The folder for the report and the logs of failed rounds.
    pub out: PathBuf,
    /// The folder of services built with the feature `failpoint`.
    pub failpoints: Option<PathBuf>,
    /// The folder of the services of the previous release.
    pub previous: Option<PathBuf>,
    /// The records of the rounds.
    pub record: RecordType,
    /// The tested commit; see [`commit`].
    pub commit: Option<String>,
}

/// The checked-out commit, with `-dirty` if the tree differs from it; `None` without a repository.
#[must_use]
pub fn commit() -> Option<String> {
    let root = workspace::root().ok()?;
    let mut git = Command::new("git");
    git.arg("-C").arg(root);
    // Without tags, which may move.
    git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let output = git.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

impl Campaign {
    /// The default folder for reports.
    ///
    /// # Errors
    /// Outside of a Cargo target folder.
    pub fn default_folder() -> Result<PathBuf> {
        Ok(workspace::target_dir()?.join("chaos-report"))
    }

    /// Plans the selected rounds, grouped by the cluster they need.
    ///
    /// # Errors
    /// If a scenario is unknown or cannot be played on this machine.
    pub fn plan(&self, selection: &Selection) -> Result<Vec<RoundSpec>> {
        let mut specs = Vec::new();
        for name in &selection.scenarios {
            specs.push(self.spec(find(name)?, self.seed, None)?);
        }
        for round in 0..selection.random {
            let seed = self.seed.wrapping_add(round);
            specs.push(self.spec(random(seed, selection.shape, self.record.is_users()), seed, None)?);
        }
        specs.sort_by_key(|spec| spec.scenario.shape);
        Ok(specs)
    }

    /// Fails if this machine cannot play the scenario.
    fn check_playable(&self, scenario: &Scenario) -> Result<()> {
        let name = scenario.name;
        if let Some(reason) = self.unfit(scenario) {
            bail!("{name} {reason}");
        }
        if scenario.needs_failpoints() && self.failpoints.is_none() {
            bail!("{name} {NO_FAILPOINTS}");
        }
        if scenario.needs_previous() && self.previous.is_none() {
            bail!("{name} {NO_PREVIOUS}");
        }
        if !scenario.has(|fault| matches!(fault, Fault::Disk(..))) {
            return Ok(());
        }
        match SmallDisk::unavailable(&workspace::target_dir()?) {
            Some(reason) => bail!("{name} needs a small disk: {reason}"),
            None => Ok(()),
        }
    }

    /// Why the scenario does not fit the records, if it doesn't.
    fn unfit(&self, scenario: &Scenario) -> Option<&'static str> {
        let needs_ingester = |fault: &Fault| {
            let is_api = matches!(fault, Fault::Api(_) | Fault::Link(Link::Api | Link::Publisher, _));
            is_api || matches!(fault, Fault::Disk(DiskOwner::Ingester, _))
        };
        if !self.record.is_users() && scenario.has(needs_ingester) {
            return Some("disturbs the ingester, which has users only");
        }
        if !self.record.is_users() && scenario.needs_previous() {
            return Some("needs the previous release, which has users only");
        }
        let has_clustering = !self.record.contract().clustering().is_empty();
        let redrives = scenario.has(|fault| *fault == Fault::Redrive);
        (has_clustering && redrives).then_some("redrives tombstones, each of which has the rows of a key")
    }

    /// The names of all scenarios that this machine can play, and the others with the reason.
    pub(crate) fn playable(&self) -> (Vec<String>, Vec<Skipped>) {
        let (mut names, mut skipped) = (Vec::new(), Vec::new());
        for scenario in catalog::all() {
            let name = scenario.name.to_owned();
            match self.check_playable(&scenario) {
                Ok(()) => names.push(name),
                Err(error) => skipped.push(Skipped {
                    scenario: name,
                    reason: error.to_string(),
                }),
            }
        }
        (names, skipped)
    }

    pub(super) fn spec(
        &self,
        scenario: Scenario,
        seed: u64,
        mutation: Option<&'static str>,
    ) -> Result<RoundSpec> {
        self.check_playable(&scenario)?;
        if mutation.is_some() && self.failpoints.is_none() {
            bail!("{} {NO_FAILPOINTS}", scenario.name);
        }
        let needed = scenario.needs_failpoints() || mutation.is_some();
        Ok(RoundSpec {
            record: self.record.clone(),
            failpoints: self.failpoints.clone().filter(|_| needed),
            previous: self.previous.clone().filter(|_| scenario.needs_previous()),
            scenario,
            seed,
            mutation,
        })
    }

    /// Plays the rounds until the budget is spent, and writes the report after each. A round that fails is in the report
    /// without a verdict, and the next one gets new servers.
    ///
    /// # Errors
    /// If the servers do not start, or the report cannot be written.
    pub async fn run(&self, specs: &[RoundSpec]) -> Result<Report> {
        self.run_without(specs, Vec::new()).await
    }

    /// [`Self::run`], with skipped scenarios for the report.
    pub(crate) async fn run_without(&self, specs: &[RoundSpec], skipped: Vec<Skipped>) -> Result<Report> {
        remove_orphans(&workspace::target_dir()?);
        let (started, mut cluster) = (Instant::now(), None);
        let mut report = Report {
            planned: specs.len(),
            skipped,
            ..Report::default()
        };
        for (number, spec) in (1..).zip(specs) {
            if self.budget.is_some_and(|budget| started.elapsed() >= budget) {
                let (played, planned) = (number - 1, specs.len());
                eprintln!("time budget spent after {played} of {planned} rounds");
                break;
            }
            eprintln!("round {number} of {}", specs.len());
            self.play(&mut cluster, spec, &mut report).await?;
        }
        report.write(&self.out)?;
        Ok(report)
    }

    /// Plays a round on the cluster it needs, which is started if necessary, and adds it to the report. Returns it, if it
    /// has a verdict.
    pub(super) async fn play<'a>(
        &self,
        cluster: &mut Option<Cluster>,
        spec: &RoundSpec,
        report: &'a mut Report,
    ) -> Result<Option<&'a RoundReport>> {
        let shape = spec.scenario.shape;
        if cluster.as_ref().is_none_or(|cluster| cluster.shape != shape) {
            // Stop the old servers before the new ones need the memory.
            drop(cluster.take());
            eprintln!("starting {} brokers and {} nodes", shape.brokers(), shape.nodes());
        }
        let servers = match cluster {
            Some(servers) => servers,
            None => cluster.insert(Cluster::start(shape).await?),
        };
        eprintln!("{}, seed {}", spec.scenario.name, spec.seed);
        for line in spec.scenario.describe() {
            eprintln!("  {line}");
        }
        let (folder, played) = round::play(servers, spec, &self.out.join("logs")).await;
        let has_verdict = played.is_ok();
        match played {
            Ok(mut round) => {
                round.commit.clone_from(&self.commit);
                round.print();
                if round.violations.is_empty() {
                    // The logs of a passed round are not needed; a failure to delete them does no harm.
                    drop(std::fs::remove_dir_all(&folder));
                } else {
                    eprintln!("  logs: {}", folder.display());
                    round.logs = Some(folder);
                }
                report.rounds.push(round);
            }
            Err(error) => {
                let reason = format!("{error:#}");
                eprintln!("  NOT PLAYED: {reason}\n  logs: {}", folder.display());
                report.not_played.push(NotPlayed {
                    scenario: spec.scenario.name.to_owned(),
                    seed: spec.seed,
                    reason,
                    logs: Some(folder),
                });
                // The state of the servers is unknown.
                drop(cluster.take());
            }
        }
        if spec.scenario.has(|fault| *fault == Fault::AddNode) {
            // A node is added once.
            drop(cluster.take());
        }
        report.write(&self.out)?;
        Ok(report.rounds.last().filter(|_| has_verdict))
    }
}

pub(super) fn find(name: &str) -> Result<Scenario> {
    catalog::find(name).ok_or_else(|| anyhow!("unknown scenario {name}; --list prints the scenarios"))
}
