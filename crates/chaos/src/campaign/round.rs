//! Plays a round: start the services, inject faults under load, wait until the pipeline settles, collect, check.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use testkit::workspace;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::artifacts;
use super::coverage::required;
use crate::cluster::Cluster;
use crate::cluster::shape::{ClusterShape, ROLE_NODE};
use crate::cluster::small_disk::SmallDisk;
use crate::evidence::incident::Incident;
use crate::evidence::topic_history::TopicHistory;
use crate::faults::injector::FaultInjector;
use crate::faults::lost_majorities;
use crate::invariants;
use crate::observe::checkpoints::CheckpointSampler;
use crate::observe::collect::{Observations, collect};
use crate::observe::health::HealthSampler;
use crate::observe::sampling_gate::SamplingGate;
use crate::observe::settle::{SETTLE_TIMEOUT, wait_until_settled};
use crate::report::round::RoundReport;
use crate::scenario::RoundSpec;
use crate::scenario::fault::{DiskOwner, Fault};
use crate::services::config::{ROLE_PASSWORD, RoundConfig};
use crate::services::{Services, clock};
use crate::workload::{Endpoints, Traffic, Workload};

/// Minimum time under load.
const LOAD: Duration = Duration::from_secs(12);
/// Additional time for a round without sufficient coverage.
const MORE_LOAD: Duration = Duration::from_secs(20);
/// For the recovery; longer than the invariant allows, so that the report contains the time.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(45);
/// For the verdicts after everything is stored: longer than the longest time between two questions of the ingester. A run with
/// records that the topic lost gets none.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(40);
/// Partitions of a topic that the campaign creates, as many as the publisher's default.
const PARTITIONS: usize = 6;
/// Size of the ingester's disk in MiB: the state of a few runs, and little to fill.
const INGESTER_DISK: u64 = 32;
/// The time to live of rows that may expire.
const ROW_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Longer than readiness may take.
const READY_TIMEOUT: Duration = Duration::from_secs(12);

/// Plays a round, and returns the folder of its logs below `logs`. The folder also contains the servers' logs and the
/// evidence, unless every invariant holds.
pub(super) async fn play(cluster: &Cluster, spec: &RoundSpec, logs: &Path) -> (PathBuf, Result<RoundReport>) {
    let mut config = round_config(spec, logs);
    let round = run(cluster, spec, &mut config).await;
    cluster.reset_proxies();
    if !round.as_ref().is_ok_and(|round| round.violations.is_empty()) {
        artifacts::keep_server_logs(cluster, &config.folder);
    }
    if round.is_ok() {
        artifacts::remove_data(cluster, &config).await;
    }
    (config.folder, round)
}

async fn run(cluster: &Cluster, spec: &RoundSpec, config: &mut RoundConfig) -> Result<RoundReport> {
    prepare(cluster, spec, config).await?;
    let config = &*config;
    let services = Services::start(cluster, config).await?;
    let started = services.started;
    let history = Arc::new(TopicHistory::default());
    let endpoints = Endpoints {
        publisher: &services.publisher,
        ingester: &services.ingester,
        topic: &config.name,
        kafka: cluster.kafka_client()?,
    };
    let traffic = Traffic {
        record: config.record.clone(),
        row_ttl: config.row_ttl,
        nodes: cluster.shape.nodes(),
        seed: spec.seed,
    };
    let workload = Workload::new(traffic, endpoints, Arc::clone(&history))?;
    let (stop, gate) = (CancellationToken::new(), SamplingGate::default());
    let health = HealthSampler {
        admin_urls: services.admin_urls().await,
        started,
        stop: stop.clone(),
    };
    let checkpoints = CheckpointSampler {
        cluster,
        config,
        kafka: cluster.kafka_client()?,
        started,
        gate: &gate,
        history: &history,
        stop: stop.clone(),
    };
    let injector = FaultInjector {
        cluster,
        services: &services,
        plan: &spec.scenario.plan,
        config,
        started,
        gate: &gate,
        workload: &workload,
        history: &history,
    };
    let course = async {
        let observations = disturb_and_settle(injector, spec).await;
        workload.stop();
        stop.cancel();
        observations
    };
    let (health, samples, observations, ()) =
        tokio::join!(health.run(), checkpoints.run(), course, workload.run());
    let observations = observations?;
    let last = checkpoints.sample(&mut None, true).await?;
    let mut evidence = collect(
        cluster,
        config,
        &services,
        workload.into_ack_log(),
        observations,
        &history,
    )
    .await?;
    evidence.health = health?;
    evidence.checkpoints = samples;
    evidence.checkpoints.push(last);
    evidence.required = required(spec);
    evidence.add_events(services.stop().await?);
    let violations = invariants::check(&evidence);
    if !violations.is_empty() {
        artifacts::keep_evidence(&evidence, &config.folder);
    }
    Ok(RoundReport::new(spec, &evidence, violations, started.elapsed()))
}

/// Creates the folder, the disk, the clock library, the topic and the role that the round needs.
async fn prepare(cluster: &Cluster, spec: &RoundSpec, config: &mut RoundConfig) -> Result<()> {
    std::fs::create_dir_all(&config.folder)
        .with_context(|| format!("failed to use {}", config.folder.display()))?;
    if spec
        .scenario
        .has(|fault| matches!(fault, Fault::Disk(DiskOwner::Ingester, _)))
    {
        let disk = SmallDisk::create(&workspace::target_dir()?, INGESTER_DISK)?;
        config.disk = Some(Arc::new(disk));
    }
    if !config.clock_shifts.is_empty() {
        config.clock_library = Some(clock::build_library()?);
    }
    match cluster.shape {
        ClusterShape::ThreeBrokers => cluster.create_topic(&config.name, PARTITIONS).await?,
        ClusterShape::Authorization => config.role = Some(create_role(cluster, config).await?),
        _ => {}
    }
    Ok(())
}

/// Creates the streamers' role, whose only replica is on [`ROLE_NODE`].
async fn create_role(cluster: &Cluster, config: &RoundConfig) -> Result<String> {
    let cassandra = &cluster.stack.cassandra;
    let mut names = (0..).map(|number| format!("{}_{number}", config.name));
    let role = names.find(|role| cassandra.owner(role.as_bytes()) == ROLE_NODE);
    let role = role.context("failed to name a role")?;
    let session = config.cassandra_client(cluster).await?;
    let create = format!("CREATE ROLE {role} WITH PASSWORD = '{ROLE_PASSWORD}' AND LOGIN = true");
    for statement in [create, format!("GRANT CREATE ON ALL KEYSPACES TO {role}")] {
        session.run(&statement).await?;
    }
    Ok(role)
}

async fn disturb_and_settle(injector: FaultInjector<'_>, spec: &RoundSpec) -> Result<Observations> {
    let FaultInjector {
        cluster,
        services,
        config,
        workload,
        ..
    } = injector;
    let (mut proxy_bypasses, proxy_connections) = services.connections(cluster).await;
    let incidents = inject_all(injector, spec).await?;
    let faults_ended = Instant::now();
    let points = cluster.stack.cassandra.contact_points();
    let recovery_seconds = workload
        .recovery_seconds(faults_ended, &points, RECOVERY_TIMEOUT)
        .await;
    proxy_bypasses.extend(services.connections(cluster).await.0);
    sleep(LOAD.saturating_sub(injector.started.elapsed())).await;
    // After a long outage, traffic continues until the coverage is sufficient.
    let enough = required(spec).acked;
    let until = Instant::now() + MORE_LOAD;
    while workload.acknowledged() < enough && Instant::now() < until {
        sleep(Duration::from_millis(200)).await;
    }
    workload.stop();
    // A request in flight may still add a record.
    drop(timeout(SETTLE_TIMEOUT, workload.pause()).await);
    drop(workload.finished_runs(SETTLE_TIMEOUT).await);
    wait_until_settled(cluster, config, injector.history).await;
    let runs = workload.judged_runs(VERDICT_TIMEOUT).await;
    if config.tombstones_to_dead_letters {
        injector.redrive().await?;
    }
    for id in services.ids() {
        // A failure shows in the health samples.
        let service = services.get(id).await;
        drop(
            service
                .wait_until_ready(READY_TIMEOUT.saturating_sub(faults_ended.elapsed()))
                .await,
        );
    }
    // This ends half-open connections.
    cluster.reset_proxies();
    cluster.api.clear_faults();
    sleep(Duration::from_secs(1)).await;
    Ok(Observations {
        incidents,
        recovery_seconds,
        runs,
        proxy_bypasses,
        proxy_connections,
    })
}

/// Injects all faults at their times, or one after the other, and adds the losses that several cause together.
async fn inject_all(injector: FaultInjector<'_>, spec: &RoundSpec) -> Result<Vec<Incident>> {
    let plan = &spec.scenario.plan;
    let mut incidents = Vec::new();
    if spec.scenario.sequential {
        for planned in plan {
            incidents.push(injector.run(planned).await?);
        }
    } else {
        incidents = try_join_all(plan.iter().map(|planned| injector.run(planned))).await?;
    }
    let played: Vec<_> = plan.iter().zip(&incidents).collect();
    let lost = lost_majorities(injector.cluster.shape, &played);
    incidents.extend(lost);
    incidents.sort_by(|one, other| one.started.total_cmp(&other.started));
    Ok(incidents)
}

fn round_config(spec: &RoundSpec, logs: &Path) -> RoundConfig {
    let scenario = &spec.scenario;
    let unique = &uuid::Uuid::new_v4().simple().to_string()[..6];
    RoundConfig {
        // The campaign of users is the one without expiry.
        row_ttl: (!spec.record.is_users()).then_some(ROW_TTL),
        record: spec.record.clone(),
        folder: logs.join(format!("{}-{}-{unique}", scenario.name, spec.seed)),
        name: format!("chaos_{}_{unique}", scenario.name.replace('-', "_")),
        binaries: spec.failpoints.clone(),
        previous: spec.previous.clone(),
        starts_as: scenario.starts_as,
        failpoint: spec.mutation,
        clock_library: None,
        // Only valid records can be redriven: deletions, which the streamers reject and the operator accepts.
        tombstones_to_dead_letters: scenario.has(|fault| *fault == Fault::Redrive),
        disk: None,
        role: None,
        static_members: scenario.has(|fault| matches!(fault, Fault::DuplicateMember(_))),
        clock_shifts: scenario.clock_shifts.iter().copied().collect(),
    }
}
