//! One round: start the services, let them work, disturb them, let them settle, read everything, judge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::chronicle::Chronicle;
use super::clock::{self, ClockError};
use super::crew::{Crew, Plot};
use super::disk::{DiskError, SmallDisk};
use super::evidence::{Demands, Evidence, Incident};
use super::fault::{Disk, Fault, Planned};
use super::inject::Scene;
use super::laws::judge;
use super::moment::BUG;
use super::pause::Pause;
use super::report::Round;
use super::scenario::Scenario;
use super::venue::Venue;
use super::watch::{CheckpointWatch, Watch};
use super::workload::{Ledger, Workload};
use crate::process::ProcessError;
use crate::proxy::{Conduct, ProxyError};
use crate::servers::ServerError;
use crate::service::ServiceError;
use crate::table::{Table, TableError};
use crate::tap::{Tap, TapError};

/// A round that could not be played: the campaign's own failure, and no verdict.
#[derive(Debug, Error)]
pub enum RoundError {
    /// A server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A service could not be started.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A process could not be signalled.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The topic can't be read.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The table can't be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// An operator's tool for Kafka failed.
    #[error("administer kafka")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// No HTTP client.
    #[error("make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// A folder or a file.
    #[error("use {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A small disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A clock that is wrong.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A command of ours did not do what the scenario needs.
    #[error("{what} was refused:\n{log}")]
    Refused {
        /// The command.
        what: &'static str,
        /// The end of its log.
        log: String,
    },
}

/// What is to be played.
#[derive(Clone, Debug)]
pub struct Order {
    /// Name, faults and clocks.
    pub scenario: Scenario,
    /// Where chance begins: the plan of a random round, and the traffic of each.
    pub seed: u64,
    /// Where services with the feature `sabotage` lie, if the round needs them.
    pub sabotaged: Option<PathBuf>,
    /// The deliberate bug.
    pub bug: Option<&'static str>,
}

/// The least time under load, so that a short fault is no short round.
const LOAD: Duration = Duration::from_secs(12);
/// And so much more for a round that has not done enough.
const MORE_LOAD: Duration = Duration::from_secs(20);
/// For runs to end, and for checkpoints to reach the end, after the last fault.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a fresh record is waited for: longer than it may take, so that the report can say how long it took.
const FRESH: Duration = Duration::from_secs(45);
/// In MiB: the state of some runs, and a filler that is soon written.
const INGESTERS_DISK: u64 = 32;
/// Above the time in which readiness must turn.
const READY: Duration = Duration::from_secs(12);

/// Plays a round and leaves its logs in a folder of its own below `logs`; returns that folder, too.
///
/// # Errors
/// When it can't be played; what the chain did wrong is in the [`Round`].
pub async fn play(venue: &Venue, order: &Order, logs: &Path) -> (PathBuf, Result<Round, RoundError>) {
    let mut plot = plot(order, logs);
    let round = course_of(venue, order, &mut plot).await;
    // The next round begins with servers that nothing disturbs.
    for proxy in venue.kafka.iter().chain(&venue.cassandra) {
        proxy.set(Conduct::default());
    }
    (plot.folder, round)
}

async fn course_of(venue: &Venue, order: &Order, plot: &mut Plot) -> Result<Round, RoundError> {
    std::fs::create_dir_all(&plot.folder).map_err(|source| RoundError::Folder {
        path: plot.folder.clone(),
        source,
    })?;
    let needs_disk = |planned: &Planned| matches!(planned.fault, Fault::Disk(Disk::Ingester, _));
    if order.scenario.plan.iter().any(needs_disk) {
        plot.disk = Some(Arc::new(SmallDisk::make(&plot.folder, INGESTERS_DISK)?));
    }
    if !plot.clocks.is_empty() {
        plot.clock = Some(clock::library()?);
    }
    let plot = &*plot;
    let crew = Crew::start(venue, plot).await?;
    let began = crew.began;
    let bootstrap = venue.stack.kafka.internal_bootstrap();
    let chronicle = Arc::new(Chronicle::default());
    let workload = Workload::new(
        &crew.publisher,
        &crew.ingester,
        &plot.name,
        bootstrap.clone(),
        Arc::clone(&chronicle),
        order.seed,
    )?;
    let (stop, pause) = (CancellationToken::new(), Pause::default());
    let watch = Watch {
        admins: crew.admins().await,
        began,
        stop: stop.clone(),
    };
    let checkpoints = CheckpointWatch {
        contact_points: venue.stack.cassandra.contact_points(),
        name: &plot.name,
        letters: plot.letters(),
        tap: Tap::new(&bootstrap)?,
        began,
        pause: &pause,
        chronicle: &chronicle,
        stop: stop.clone(),
    };
    let scene = Scene {
        venue,
        crew: &crew,
        plot,
        began,
        pause: &pause,
        workload: &workload,
        chronicle: &chronicle,
    };
    let course = async {
        let course = disturb_and_settle(scene, order, &workload).await;
        workload.stop();
        stop.cancel();
        course
    };
    let (looks, samples, course, ()) = tokio::join!(watch.run(), checkpoints.run(), course, workload.run());
    let course = course?;
    let last = checkpoints.sample(&mut None, true).await?;
    let ledger = workload.into_ledger();
    let mut evidence = gather(venue, plot, ledger, course, &chronicle).await?;
    evidence.looks = looks?;
    evidence.checkpoints = samples;
    evidence.checkpoints.push(last);
    evidence.demands = demands(&order.scenario.plan);
    (evidence.odd_ends, evidence.late_ends) = crew.end().await?;
    let violations = judge(&evidence);
    Ok(Round::new(order, &evidence, violations, began.elapsed()))
}

/// What was seen on the way.
struct Course {
    incidents: Vec<Incident>,
    fresh: Option<f64>,
    runs: Vec<super::evidence::Run>,
    around: Vec<String>,
    connections: usize,
}

async fn disturb_and_settle(
    scene: Scene<'_>,
    order: &Order,
    workload: &Workload,
) -> Result<Course, RoundError> {
    let (mut around, connections) = scene.crew.around(scene.venue).await;
    let plays = order.scenario.plan.iter().map(|planned| scene.play(planned));
    let mut incidents = try_join_all(plays).await?;
    incidents.sort_by(|one, other| one.began.total_cmp(&other.began));
    let over = Instant::now();
    let points = scene.venue.stack.cassandra.contact_points();
    let table = Table::connect(&points, &scene.plot.name).await?;
    let fresh = workload.fresh(over, &table, FRESH).await;
    around.extend(scene.crew.around(scene.venue).await.0);
    sleep(LOAD.saturating_sub(scene.began.elapsed())).await;
    // Where an outage took most of the time, traffic goes on until the round has stressed something.
    let enough = demands(&order.scenario.plan).acknowledged;
    let until = Instant::now() + MORE_LOAD;
    while workload.acknowledged() < enough && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
    }
    workload.stop();
    let runs = workload.runs(SETTLE).await;
    settle(scene, &table).await?;
    for who in scene.crew.everybody() {
        // That it is not is what the law of readiness says.
        drop(
            scene
                .crew
                .get(who)
                .await
                .ready(READY.saturating_sub(over.elapsed()))
                .await,
        );
    }
    // The open connections of a half-open fault end here.
    for proxy in scene.venue.kafka.iter().chain(&scene.venue.cassandra) {
        proxy.set(Conduct::default());
    }
    scene.venue.api.clear_faults();
    sleep(Duration::from_secs(1)).await;
    Ok(Course {
        incidents,
        fresh,
        runs,
        around,
        connections,
    })
}

/// Waits until every checkpoint is the end, or for as long as that may take.
pub(super) async fn settle(scene: Scene<'_>, table: &Table) -> Result<(), RoundError> {
    let tap = Tap::new(scene.venue.stack.kafka.internal_bootstrap())?;
    let name = &scene.plot.name;
    let until = Instant::now() + SETTLE;
    while Instant::now() < until {
        let ends = tap.ends(name).await?;
        let checkpoints = table.checkpoints(name, name).await?;
        let reached = |(partition, end): (&i32, &i64)| {
            checkpoints.get(partition).is_some_and(|checkpoint| {
                let next = (*partition, checkpoint.next_offset);
                let chronicle = scene.chronicle;
                chronicle.place(Some(checkpoint.topic_id), next) == chronicle.place(None, (*partition, *end))
            })
        };
        if ends.iter().all(reached) {
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn gather(
    venue: &Venue,
    plot: &Plot,
    ledger: Ledger,
    course: Course,
    chronicle: &Chronicle,
) -> Result<Evidence, RoundError> {
    let gone = chronicle.tell();
    let tap = Tap::new(venue.stack.kafka.internal_bootstrap())?;
    let points = venue.stack.cassandra.contact_points();
    let table = Table::connect(&points, &plot.name).await?.by_quorum();
    let ends = tap.ends(&plot.name).await?;
    Ok(Evidence {
        obligations: ledger.obligations,
        minted: ledger.minted,
        sent: ledger.sent,
        runs: course.runs,
        untrue_answers: ledger.untrue,
        topic: plot.name.clone(),
        log: gone.and(tap.read(&plot.name).await?),
        letters: tap.read(&plot.letters()).await?,
        rows: table.stamped_users().await?,
        ends: ends.into_iter().map(|end| gone.place(None, end)).collect(),
        gone,
        connections: course.connections,
        incidents: course.incidents,
        around: course.around,
        fresh_seconds: course.fresh,
        ..Evidence::default()
    })
}

/// What each round has to have done at least, at a tenth or so of what it does.
fn demands(plan: &[Planned]) -> Demands {
    let rebalances = plan.iter().any(|planned| planned.fault.rebalances(planned.lasts));
    Demands {
        acknowledged: 500,
        versions: 100,
        letters: 10,
        faults: plan.len(),
        rebalances: usize::from(rebalances),
        runs: 1,
        samples: 4,
        looks: 5,
        // The publisher's to Kafka, each streamer's to Kafka and to Cassandra, at the beginning.
        connections: 4,
    }
}

fn plot(order: &Order, logs: &Path) -> Plot {
    let unique = &uuid::Uuid::new_v4().simple().to_string()[..6];
    let name = format!("chaos_{}_{unique}", order.scenario.name.replace('-', "_"));
    Plot {
        folder: logs.join(format!("{}-{}-{unique}", order.scenario.name, order.seed)),
        name,
        binaries: order.sabotaged.clone(),
        bug: order.bug.map(|bug| (BUG, bug)),
        clock: None,
        disk: None,
        are_static: order
            .scenario
            .plan
            .iter()
            .any(|planned| matches!(planned.fault, Fault::Duplicate(_))),
        clocks: order.scenario.clocks.iter().copied().collect(),
    }
}
