//! Plays rounds one after the other on warm servers, tells of each, and keeps the logs of those that fail.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::disk::SmallDisk;
use super::fault::{Fault, Planned};
use super::report::{Report, ReportError, Round};
use super::round::{self, Order, RoundError};
use super::scenario::{self, Scenario};
use super::schedule;
use super::venue::{Shape, Venue, VenueError};
use crate::workspace::{self, WorkspaceError};

/// A campaign could not go on.
#[derive(Debug, Error)]
pub enum CampaignError {
    /// No servers.
    #[error(transparent)]
    Venue(#[from] VenueError),
    /// A round could not be played.
    #[error("play {name} with seed {seed}")]
    Round {
        /// The scenario's name.
        name: &'static str,
        /// The seed.
        seed: u64,
        /// Why not.
        #[source]
        source: Box<RoundError>,
    },
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
    #[error("{0} needs services built with the feature `sabotage`; scripts/chaos builds them")]
    NotSabotaged(String),
    /// Nothing on this machine can be a small disk.
    #[error("{name} needs a small disk: {obstacle}")]
    NoDisk {
        /// The scenario.
        name: String,
        /// What is in the way.
        obstacle: &'static str,
    },
}

/// What is to be played.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    /// These, by name.
    pub scenarios: Vec<String>,
    /// So many rounds by chance.
    pub random: u64,
    /// On how many servers of each kind they are.
    pub cluster: bool,
}

/// A campaign.
pub struct Campaign {
    /// Where chance begins.
    pub seed: u64,
    /// No round begins later than this.
    pub budget: Option<Duration>,
    /// Where reports and the logs of failed rounds go.
    pub out: PathBuf,
    /// Where services with the feature `sabotage` lie.
    pub sabotaged: Option<PathBuf>,
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
                clocks: Vec::new(),
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
        if scenario.needs_moments() && self.sabotaged.is_none() {
            return Err(CampaignError::NotSabotaged(name()));
        }
        let spoils = |planned: &Planned| matches!(planned.fault, Fault::Disk(..));
        match SmallDisk::obstacle().filter(|_| scenario.plan.iter().any(spoils)) {
            Some(obstacle) => Err(CampaignError::NoDisk {
                name: name(),
                obstacle,
            }),
            None => Ok(()),
        }
    }

    /// One round.
    pub(super) fn order(
        &self,
        scenario: Scenario,
        seed: u64,
        bug: Option<&'static str>,
    ) -> Result<Order, CampaignError> {
        self.can_play(&scenario)?;
        if bug.is_some() && self.sabotaged.is_none() {
            return Err(CampaignError::NotSabotaged(scenario.name.to_owned()));
        }
        let needs = scenario.needs_moments() || bug.is_some();
        Ok(Order {
            sabotaged: self.sabotaged.clone().filter(|_| needs),
            scenario,
            seed,
            bug,
        })
    }

    /// Plays them all, or until the budget is spent; the report is written after each.
    ///
    /// # Errors
    /// When one can't be played; what was found before is in the report that was written.
    pub async fn run(&self, orders: &[Order]) -> Result<Report, CampaignError> {
        let (started, mut venue, mut report) = (Instant::now(), None, Report::default());
        for (number, order) in (1..).zip(orders) {
            if self.budget.is_some_and(|budget| started.elapsed() >= budget) {
                eprintln!(
                    "the budget is spent after {} of {} rounds",
                    report.rounds.len(),
                    orders.len()
                );
                break;
            }
            eprintln!("round {number} of {}", orders.len());
            let round = self.play(&mut venue, order).await?;
            report.rounds.push(round);
            report.write(&self.out)?;
        }
        Ok(report)
    }

    /// Plays one round on the venue it needs, which is started if it is not there.
    pub(super) async fn play(
        &self,
        venue: &mut Option<Venue>,
        order: &Order,
    ) -> Result<Round, CampaignError> {
        let shape = order.scenario.shape;
        if venue.as_ref().is_none_or(|venue| venue.shape != shape) {
            // The old servers end before the new ones take their memory.
            drop(venue.take());
            eprintln!("starting {} of each server", shape.nodes());
        }
        let venue = match venue {
            Some(venue) => venue,
            None => venue.insert(Venue::start(shape).await?),
        };
        let name = order.scenario.name;
        eprintln!("{name}, seed {}", order.seed);
        for planned in &order.scenario.plan {
            eprintln!("  {planned}");
        }
        let logs = self.out.join("logs");
        let (folder, played) = round::play(venue, order, &logs).await;
        let mut round = played.map_err(|source| CampaignError::Round {
            name,
            seed: order.seed,
            source: Box::new(source),
        })?;
        tell(&round);
        if round.violations.is_empty() {
            // A round that holds needs no logs; what is left of them does no harm.
            drop(std::fs::remove_dir_all(&folder));
        } else {
            eprintln!("  its logs: {}", folder.display());
            round.logs = Some(folder);
        }
        Ok(round)
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
