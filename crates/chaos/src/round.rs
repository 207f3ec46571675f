//! One round: start the services, let them work, disturb them, let them settle, read everything, judge.

mod aftermath;
mod demands;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::demands::demands;
use super::chronicle::Chronicle;
use super::clock::{self, ClockError};
use super::crew::{Crew, Plot};
use super::disk::{DiskError, SmallDisk};
use super::evidence::Incident;
use super::fault::{Disk, Fault, Planned};
use super::inject::{Scene, lost_majorities};
use super::laws::judge;
use super::moment::BUG;
use super::pause::Pause;
use super::report::Round;
use super::scenario::Scenario;
use super::venue::Venue;
use super::watch::{CheckpointWatch, Watch};
use super::workload::Workload;
use testkit::cassandra_client::CassandraClientError;
use testkit::kafka_client::{KafkaClient, KafkaClientError};
use testkit::process::ProcessError;
use testkit::proxy::{Behavior, ProxyError};
use testkit::servers::ServerError;
use testkit::service::ServiceError;
use testkit::workspace::{self, WorkspaceError};

pub(super) use aftermath::settle;

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
    KafkaClient(#[from] KafkaClientError),
    /// The table can't be read.
    #[error(transparent)]
    CassandraClient(#[from] CassandraClientError),
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
    /// No place for it.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
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
    /// Where services with the feature `failpoint` lie, if the round needs them.
    pub failpoints: Option<PathBuf>,
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

/// Plays a round and leaves its logs in a folder of its own below `logs`; returns that folder, too. Where a law did not
/// hold, or the round could not be played, the servers' logs lie beside them, and what was found.
///
/// # Errors
/// When it can't be played; what the chain did wrong is in the [`Round`].
pub async fn play(venue: &Venue, order: &Order, logs: &Path) -> (PathBuf, Result<Round, RoundError>) {
    let mut plot = plot(order, logs);
    let round = course_of(venue, order, &mut plot).await;
    // The next round begins with servers that nothing disturbs.
    for proxy in venue.kafka.iter().chain(&venue.cassandra) {
        proxy.set(Behavior::default());
    }
    if !round.as_ref().is_ok_and(|round| round.violations.is_empty()) {
        aftermath::keep_server_logs(venue, &plot.folder);
    }
    if round.is_ok() {
        aftermath::forget(venue, &plot).await;
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
        let disk = SmallDisk::make(&workspace::target_dir()?, INGESTERS_DISK)?;
        plot.disk = Some(Arc::new(disk));
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
        tap: KafkaClient::new(&bootstrap)?,
        began,
        pause: &pause,
        chronicle: &chronicle,
        stop: stop.clone(),
    };
    let scene = Scene {
        venue,
        crew: &crew,
        plan: &order.scenario.plan,
        plot,
        began,
        pause: &pause,
        workload: &workload,
        chronicle: &chronicle,
    };
    let course = async {
        let course = disturb_and_settle(scene, order).await;
        workload.stop();
        stop.cancel();
        course
    };
    let (looks, samples, course, ()) = tokio::join!(watch.run(), checkpoints.run(), course, workload.run());
    let course = course?;
    let last = checkpoints.sample(&mut None, true).await?;
    let mut evidence = aftermath::gather(venue, plot, workload.into_ledger(), course, &chronicle).await?;
    evidence.looks = looks?;
    evidence.checkpoints = samples;
    evidence.checkpoints.push(last);
    evidence.demands = demands(&order.scenario.plan);
    evidence.take(crew.end().await?);
    let violations = judge(&evidence);
    if !violations.is_empty() {
        aftermath::keep_evidence(&evidence, &plot.folder);
    }
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

async fn disturb_and_settle(scene: Scene<'_>, order: &Order) -> Result<Course, RoundError> {
    let (mut around, connections) = scene.crew.around(scene.venue).await;
    let incidents = disturb(scene, order).await?;
    let (over, workload) = (Instant::now(), scene.workload);
    let points = scene.venue.stack.cassandra.contact_points();
    let fresh = workload.fresh(over, &points, FRESH).await;
    around.extend(scene.crew.around(scene.venue).await.0);
    sleep(LOAD.saturating_sub(scene.began.elapsed())).await;
    // Where an outage took most of the time, traffic goes on until the round has stressed something.
    let enough = demands(&order.scenario.plan).acknowledged;
    let until = Instant::now() + MORE_LOAD;
    while workload.acknowledged() < enough && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
    }
    workload.stop();
    // A request that is under way may still bring a record, which nobody would wait for below.
    drop(timeout(SETTLE, workload.hold()).await);
    let runs = workload.runs(SETTLE).await;
    settle(scene).await;
    if scene.plot.sets_deletions_aside {
        scene.redrive().await?;
    }
    for who in scene.crew.everybody() {
        // That it is not is what the law of readiness says.
        drop(
            scene
                .crew
                .get(who)
                .await
                .wait_until_ready(READY.saturating_sub(over.elapsed()))
                .await,
        );
    }
    // The open connections of a half-open fault end here.
    for proxy in scene.venue.kafka.iter().chain(&scene.venue.cassandra) {
        proxy.set(Behavior::default());
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

/// Plays the plan, all faults at their times or each in its turn; what two of them bring about together is told, too.
async fn disturb(scene: Scene<'_>, order: &Order) -> Result<Vec<Incident>, RoundError> {
    let plan = &order.scenario.plan;
    let mut incidents = Vec::new();
    if order.scenario.in_turn {
        for planned in plan {
            incidents.push(scene.play(planned).await?);
        }
    } else {
        let plays = plan.iter().map(|planned| scene.play(planned));
        incidents = try_join_all(plays).await?;
    }
    let played: Vec<_> = plan.iter().zip(&incidents).collect();
    let lost = lost_majorities(&played, &scene.crew.streamers());
    incidents.extend(lost);
    incidents.sort_by(|one, other| one.began.total_cmp(&other.began));
    Ok(incidents)
}

/// Dead letters that are to be redriven must be records after all: deletions, which the streamers refuse and the operator
/// does not.
fn sets_deletions_aside(plan: &[Planned]) -> bool {
    plan.iter().any(|planned| planned.fault == Fault::Redrive)
}

fn plot(order: &Order, logs: &Path) -> Plot {
    let unique = &uuid::Uuid::new_v4().simple().to_string()[..6];
    let name = format!("chaos_{}_{unique}", order.scenario.name.replace('-', "_"));
    Plot {
        folder: logs.join(format!("{}-{}-{unique}", order.scenario.name, order.seed)),
        name,
        binaries: order.failpoints.clone(),
        bug: order.bug.map(|bug| (BUG, bug)),
        clock: None,
        sets_deletions_aside: sets_deletions_aside(&order.scenario.plan),
        disk: None,
        are_static: order
            .scenario
            .plan
            .iter()
            .any(|planned| matches!(planned.fault, Fault::Duplicate(_))),
        clocks: order.scenario.clocks.iter().copied().collect(),
    }
}
