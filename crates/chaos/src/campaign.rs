//! Plays rounds one after the other on warm servers, tells of each, and keeps the logs of those that fail.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::disk::{SmallDisk, remove_orphans};
use super::fault::{Fault, Planned};
use super::report::{LeftOut, NotPlayed, Report, ReportError, Round};
use super::round::{self, Order};
use super::scenario::{self, Scenario};
use super::schedule;
use super::venue::{Shape, Venue, VenueError};
use testkit::error::chain;
use testkit::workspace::{self, WorkspaceError};

/// A campaign could not go on.
#[derive(Debug, Error)]
pub enum CampaignError {
    /// No servers.
    #[error(transparent)]
    Venue(#[from] VenueError),
    /// The report can't be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// No place for logs.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// There is no such scenario.
    #[error("there is no scenario {0}; see --list")]
    NoScenario(String),
    /// The scenario needs a build that is not there.
    #[error("{0} needs services built with the feature `failpoint`; scripts/chaos builds them")]
    NotSabotaged(String),
    /// Nothing on this machine can be a small disk.
    #[error("{name} needs a small disk: {obstacle}")]
    NoDisk {
        /// The scenario.
        name: String,
        /// What is in the way.
        obstacle: String,
    },
}

/// What is to be played.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// These, by name.
    pub scenarios: Vec<String>,
    /// So many rounds by chance.
    pub random: u64,
    /// Whether they are on three servers of each kind, and not on one.
    pub cluster: bool,
}

/// A campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Where chance begins.
    pub seed: u64,
    /// No round begins later than this.
    pub budget: Option<Duration>,
    /// Where reports and the logs of failed rounds go.
    pub out: PathBuf,
    /// Where services with the feature `failpoint` lie.
    pub failpoints: Option<PathBuf>,
    /// The commit that is played; see [`commit`].
    pub commit: Option<String>,
}

/// The commit that is checked out, with `-dirty` where the tree differs from it; none, where nobody can say.
#[must_use]
pub fn commit() -> Option<String> {
    let root = workspace::root().ok()?;
    let mut git = Command::new("git");
    git.arg("-C").arg(root);
    // No tag's name, which may move.
    git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let output = git.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

impl Campaign {
    /// Where reports go unless told otherwise.
    ///
    /// # Errors
    /// Outside of a Cargo target folder.
    pub fn folder() -> Result<PathBuf, CampaignError> {
        Ok(workspace::target_dir()?.join("chaos-report"))
    }

    /// The rounds of a pick.
    ///
    /// # Errors
    /// When a scenario is not known, or can't be played here.
    pub fn orders(&self, pick: &Pick) -> Result<Vec<Order>, CampaignError> {
        let mut orders = Vec::new();
        for name in &pick.scenarios {
            let scenario = scenario::named(name).ok_or_else(|| CampaignError::NoScenario(name.clone()))?;
            orders.push(self.order(scenario, self.seed, None)?);
        }
        let shape = if pick.cluster { Shape::Three } else { Shape::One };
        for round in 0..pick.random {
            let seed = self.seed.wrapping_add(round);
            let scenario = Scenario {
                name: if pick.cluster { "random-cluster" } else { "random" },
                shape,
                plan: schedule::random(seed, shape),
                clocks: schedule::clocks(seed),
                in_turn: false,
            };
            orders.push(self.order(scenario, seed, None)?);
        }
        // Each kind of venue is started once.
        orders.sort_by_key(|order| order.scenario.shape);
        Ok(orders)
    }

    /// Whether it can be played on this machine.
    ///
    /// # Errors
    /// What it lacks.
    pub fn can_play(&self, scenario: &Scenario) -> Result<(), CampaignError> {
        let name = || scenario.name.to_owned();
        if scenario.needs_moments() && self.failpoints.is_none() {
            return Err(CampaignError::NotSabotaged(name()));
        }
        let spoils = |planned: &Planned| matches!(planned.fault, Fault::Disk(..));
        if !scenario.plan.iter().any(spoils) {
            return Ok(());
        }
        match SmallDisk::obstacle(&workspace::target_dir()?) {
            Some(obstacle) => Err(CampaignError::NoDisk {
                name: name(),
                obstacle,
            }),
            None => Ok(()),
        }
    }

    /// The names of all scenarios that can be played on this machine, and the others with what is in the way.
    #[must_use]
    pub fn everything(&self) -> (Vec<String>, Vec<LeftOut>) {
        let (mut names, mut left_out) = (Vec::new(), Vec::new());
        for scenario in scenario::all() {
            let name = scenario.name.to_owned();
            match self.can_play(&scenario) {
                Ok(()) => names.push(name),
                Err(error) => left_out.push(LeftOut {
                    scenario: name,
                    reason: error.to_string(),
                }),
            }
        }
        (names, left_out)
    }

    /// One round.
    pub(super) fn order(
        &self,
        scenario: Scenario,
        seed: u64,
        bug: Option<&'static str>,
    ) -> Result<Order, CampaignError> {
        self.can_play(&scenario)?;
        if bug.is_some() && self.failpoints.is_none() {
            return Err(CampaignError::NotSabotaged(scenario.name.to_owned()));
        }
        let needs = scenario.needs_moments() || bug.is_some();
        Ok(Order {
            failpoints: self.failpoints.clone().filter(|_| needs),
            scenario,
            seed,
            bug,
        })
    }

    /// Plays them all, or until the budget is spent; the report is written after each. A round that can't be played is in
    /// the report without a verdict, and the next one begins with other servers.
    ///
    /// # Errors
    /// When there are no servers, or the report can't be written.
    pub async fn run(&self, orders: &[Order], left_out: Vec<LeftOut>) -> Result<Report, CampaignError> {
        remove_orphans(&workspace::target_dir()?);
        let (started, mut venue) = (Instant::now(), None);
        let mut report = Report {
            ordered: orders.len(),
            left_out,
            ..Report::default()
        };
        for (number, order) in (1..).zip(orders) {
            if self.budget.is_some_and(|budget| started.elapsed() >= budget) {
                eprintln!(
                    "the budget is spent after {} of {} rounds",
                    number - 1,
                    orders.len()
                );
                break;
            }
            eprintln!("round {number} of {}", orders.len());
            self.play(&mut venue, order, &mut report).await?;
        }
        report.write(&self.out)?;
        Ok(report)
    }

    /// Plays one round on the venue it needs, which is started if it is not there; it is the report's last one then,
    /// unless it could not be played.
    pub(super) async fn play<'a>(
        &self,
        venue: &mut Option<Venue>,
        order: &Order,
        report: &'a mut Report,
    ) -> Result<Option<&'a Round>, CampaignError> {
        let shape = order.scenario.shape;
        if venue.as_ref().is_none_or(|venue| venue.shape != shape) {
            // The old servers end before the new ones take their memory.
            drop(venue.take());
            eprintln!("starting {} of each server", shape.nodes());
        }
        let stage = match venue {
            Some(venue) => venue,
            None => venue.insert(Venue::start(shape).await?),
        };
        announce(order);
        let (folder, played) = round::play(stage, order, &self.out.join("logs")).await;
        match played {
            Ok(mut round) => {
                round.commit.clone_from(&self.commit);
                tell(&round);
                if round.violations.is_empty() {
                    // A round that holds needs no logs; what is left of them does no harm.
                    drop(std::fs::remove_dir_all(&folder));
                } else {
                    eprintln!("  its logs: {}", folder.display());
                    round.logs = Some(folder);
                }
                report.rounds.push(round);
                report.write(&self.out)?;
                Ok(report.rounds.last())
            }
            Err(error) => {
                let reason = chain(&error);
                eprintln!("  NOT PLAYED: {reason}\n  its logs: {}", folder.display());
                report.not_played.push(NotPlayed {
                    scenario: order.scenario.name.to_owned(),
                    seed: order.seed,
                    reason,
                    logs: Some(folder),
                });
                // Nobody knows in which state it left the servers.
                drop(venue.take());
                report.write(&self.out)?;
                Ok(None)
            }
        }
    }
}

fn announce(order: &Order) {
    eprintln!("{}, seed {}", order.scenario.name, order.seed);
    for (who, seconds) in &order.scenario.clocks {
        eprintln!("  {}", scenario::clock(*who, *seconds));
    }
    for planned in &order.scenario.plan {
        eprintln!("  {planned}");
    }
}

fn tell(round: &Round) {
    let fresh = round
        .fresh_seconds
        .map_or("never".to_owned(), |seconds| format!("{seconds:.1} s"));
    eprintln!(
        "  {:.0} s: {} acknowledged, {} records, {} rows, {} refused, {} rebalances, {} samples, fresh after {fresh}",
        round.seconds,
        round.acknowledged,
        round.records,
        round.rows,
        round.refused,
        round.rebalances,
        round.samples
    );
    for violation in &round.violations {
        eprintln!("  VIOLATED {violation}");
    }
}
