//! Outages of single brokers of three. Readiness reports missing partition leaders and group coordinators, and liveness
//! never fails.
//!
//! The topic's only partition and the group's offsets have one replica each, on different brokers. So the outage of one
//! broker removes either the leader or the coordinator, while the other two brokers serve metadata.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::kafka::MetadataClient;
use futures::future::{join, join_all};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use reqwest::StatusCode;
use streamer::config::KafkaSettings;
use testkit::kafka_client::KafkaClient;
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::{Service, ServiceOptions};
use testkit::workspace::is_full_test_run;

use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};
use crate::support::traffic::metric;

/// Maximum time from an outage until readiness fails, and from its end until readiness recovers.
const READINESS_LIMIT: Duration = Duration::from_secs(10);

/// Timeout of a request to a broker, and the interval of requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long readiness must keep failing in a short run: two requests.
const SHORT_OUTAGE: Duration = Duration::from_secs(4);

/// The only broker with a replica of the topic's partition.
pub(super) const LEADER: i32 = 1;
/// The only broker with a replica of the group's offsets.
const COORDINATOR: i32 = 2;
/// The broker with neither replica.
pub(super) const OTHER_BROKER: i32 = 3;

const OFFSETS: &str = "__consumer_offsets";

/// Number of metadata clients. Each receives a random broker as the controller. In one of about 650 runs none receives
/// the broker that is killed.
const CLIENTS: usize = 16;

/// An environment on its own cluster of three brokers. Topic and group have the same name.
pub(super) struct BrokerCluster {
    cluster: KafkaCluster,
    pub(super) env: TestEnv,
}

impl BrokerCluster {
    async fn new() -> Self {
        let cluster = Self::without_topic().await;
        create_on(&cluster.cluster, &cluster.env.topic, &[LEADER]).await;
        cluster
    }

    /// A group that [`COORDINATOR`] coordinates, without its topic.
    pub(super) async fn without_topic() -> Self {
        let cluster = KafkaCluster::lease(&KafkaOptions::three_nodes(), Access::Exclusive)
            .await
            .unwrap();
        let mut env = TestEnv::without_topic("brokers").await;
        env.kafka = KafkaClient::new(cluster.bootstrap()).unwrap();
        env.topic = find_group(&cluster, &env).await;
        cluster.create_topic(&env.dead_letter_topic(), 1).await.unwrap();
        Self { cluster, env }
    }

    pub(super) fn bootstrap(&self) -> String {
        self.cluster.bootstrap()
    }

    pub(super) fn options(&self, name: &str) -> ServiceOptions {
        self.env
            .options()
            .log_name(name)
            .set("kafka.brokers", self.cluster.bootstrap())
    }

    /// Kills a broker.
    pub(super) async fn kill_broker(&self, broker: i32) {
        self.cluster.node(index(broker)).unwrap().kill().await.unwrap();
    }

    /// Waits until the metadata of both other brokers lacks the broker.
    pub(super) async fn wait_until_fenced(&self, broker: i32) {
        let others = [LEADER, COORDINATOR, OTHER_BROKER]
            .into_iter()
            .filter(|it| *it != broker);
        for other in others {
            let address = self.cluster.node(index(other)).unwrap().address().to_owned();
            eventually("the cluster has fenced the broker", async || {
                let known = brokers_known_to(&address).await?;
                if known.contains(&broker) {
                    Err(format!("{other} knows {known:?}"))
                } else {
                    Ok(())
                }
            })
            .await;
        }
    }

    /// Starts a broker again, and waits until it accepts requests.
    pub(super) async fn restart_broker(&self, broker: i32) {
        self.cluster.node(index(broker)).unwrap().start().await.unwrap();
    }

    /// Checks that new records become rows.
    async fn assert_writes_rows(&self) {
        self.env.write(&new_users(10)).await;
        self.env.wait_for_current_ends().await;
    }
}

fn index(broker: i32) -> usize {
    usize::try_from(broker - 1).unwrap()
}

fn settings(cluster: &KafkaCluster, topic: &str) -> KafkaSettings {
    let addresses = [0, 1, 2].map(|index| cluster.nodes()[index].address());
    let addresses: Vec<_> = addresses.into_iter().map(ToString::to_string).collect();
    KafkaSettings {
        brokers: serde_json::from_value(addresses.into()).unwrap(),
        topic: Some(topic.to_owned().try_into().unwrap()),
        group: topic.to_owned(),
        probe_interval: REQUEST_TIMEOUT,
        ..KafkaSettings::default()
    }
}

/// Returns the brokers in the metadata of the one at `address`.
async fn brokers_known_to(address: &str) -> Result<Vec<i32>, String> {
    let address = address.to_owned();
    let request = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", address)
            .create()
            .unwrap();
        let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT);
        metadata.map(|it| it.brokers().iter().map(|broker| broker.id()).collect())
    });
    request.await.unwrap().map_err(|error| error.to_string())
}

/// Finds a name of a group that [`COORDINATOR`] coordinates.
async fn find_group(cluster: &KafkaCluster, env: &TestEnv) -> String {
    // The brokers create the offsets topic at the first request for a coordinator.
    let client = Arc::new(streamer::consumer::client::metadata(&settings(cluster, &env.topic)).unwrap());
    eventually("the offsets topic has leaders", async || {
        let coordinator = client.request(MetadataClient::coordinator).await;
        let leaders = env.kafka.leaders(OFFSETS).await.unwrap();
        if leaders.is_empty() || leaders.values().any(|leader| *leader < LEADER) {
            Err(format!("{leaders:?}, {coordinator:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    let leaders = env.kafka.leaders(OFFSETS).await.unwrap();
    let count = i32::try_from(leaders.len()).unwrap();
    let mut names = (0..1_000).map(|number| format!("{}_{number}", env.topic));
    names
        .find(|name| leaders[&(java_hash(name) % count)] == COORDINATOR)
        .unwrap_or_else(|| panic!("broker {COORDINATOR} coordinates no group: {leaders:?}"))
}

/// Computes the absolute hash of a Java `String`, by which Kafka finds a group's partition.
fn java_hash(text: &str) -> i32 {
    let hash = text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash.checked_abs().unwrap_or(0)
}

/// Creates a topic whose partitions have one replica each, on these brokers.
async fn create_on(cluster: &KafkaCluster, topic: &str, brokers: &[i32]) {
    let replicas: Vec<_> = brokers.iter().map(std::slice::from_ref).collect();
    let partitions = i32::try_from(replicas.len()).unwrap();
    create_topic(
        &cluster.bootstrap(),
        &NewTopic::new(topic, partitions, TopicReplication::Variable(&replicas)),
    )
    .await;
}

pub(super) async fn create_topic(bootstrap: &str, topic: &NewTopic<'_>) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap();
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    for result in admin.create_topics([topic], &options).await.unwrap() {
        result.unwrap();
    }
}

async fn assigned_partitions(member: &Service) -> f64 {
    metric(member, "streamer_assigned_partitions", "").await
}

/// Returns how often the member received an assignment, which may be empty.
async fn assignment_count(member: &Service) -> f64 {
    metric(member, "streamer_rebalances_total", "assigned").await
}

/// Waits until both are members and one holds the partition. Returns the holder and the idle member.
async fn holder_and_idle(one: Service, other: Service) -> (Service, Service) {
    eventually("one of two members holds the partition", async || {
        let assignments = (assignment_count(&one).await, assignment_count(&other).await);
        let partitions = (assigned_partitions(&one).await, assigned_partitions(&other).await);
        if assignments.0 > 0.0
            && assignments.1 > 0.0
            && (partitions == (1.0, 0.0) || partitions == (0.0, 1.0))
        {
            Ok(())
        } else {
            Err(format!("assignments {assignments:?}, partitions {partitions:?}"))
        }
    })
    .await;
    if assigned_partitions(&one).await > 0.0 {
        (one, other)
    } else {
        (other, one)
    }
}

async fn assert_live(member: &Service) {
    let (status, body) = member.get("/healthz").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
}

/// Waits until `/readyz` reports Kafka as not ready, for [`READINESS_LIMIT`].
async fn wait_until_kafka_unready(member: &Service) {
    let readiness = member
        .wait_for_readiness(StatusCode::SERVICE_UNAVAILABLE, READINESS_LIMIT)
        .await
        .unwrap();
    let dependencies = readiness["dependencies"].as_array().unwrap();
    let unready = dependencies
        .iter()
        .any(|it| it["name"] == "kafka" && it["ready"] == false);
    assert!(unready, "{readiness}");
    assert_live(member).await;
}

/// Checks that readiness fails for [`READINESS_LIMIT`], or [`SHORT_OUTAGE`]. After a single failed request it would
/// recover with the next request.
async fn assert_kafka_stays_unready(member: &Service) {
    let outage = if is_full_test_run() {
        READINESS_LIMIT
    } else {
        SHORT_OUTAGE
    };
    let started = Instant::now();
    while started.elapsed() < outage {
        let (status, body) = member.get("/readyz").await.unwrap();
        let elapsed = started.elapsed();
        assert_eq!(
            status,
            StatusCode::SERVICE_UNAVAILABLE,
            "after {elapsed:?}: {body}"
        );
        assert_live(member).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the member is ready, for [`READINESS_LIMIT`].
async fn wait_until_ready(member: &Service) {
    member.wait_until_ready(READINESS_LIMIT).await.unwrap();
    assert_live(member).await;
}

/// Requests the topic's id until it succeeds, for [`READINESS_LIMIT`]. Returns the last error.
async fn fetch_topic_id(client: &Arc<MetadataClient>) -> Result<(), String> {
    let deadline = Instant::now() + READINESS_LIMIT;
    loop {
        let error = match client.request(MetadataClient::topic).await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_each_broker_outage() {
    let brokers = BrokerCluster::new().await;
    let one = brokers.env.start(&brokers.options("one")).await;
    let other = brokers.env.start(&brokers.options("other")).await;
    let (holder, idle) = holder_and_idle(one, other).await;
    brokers.assert_writes_rows().await;
    let (one, other) = check_leader_outage(&brokers, holder, idle).await;
    check_coordinator_outage(&brokers, &one, &other).await;
    check_other_broker_outage(&brokers, &one, &other).await;
    brokers.env.assert_nothing_lost_or_rejected().await;
}

/// The partitions of the killed broker have a leader that does not respond, and none once the broker is fenced.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_with_leaders_are_read_while_others_have_none() {
    let brokers = BrokerCluster::without_topic().await;
    let env = &brokers.env;
    let leaders = [
        LEADER,
        OTHER_BROKER,
        COORDINATOR,
        LEADER,
        OTHER_BROKER,
        COORDINATOR,
    ];
    create_on(&brokers.cluster, &env.topic, &leaders).await;
    env.write(&new_users(120)).await;
    let mut ends = env.kafka.end_offsets(&env.topic).await.unwrap();
    assert!(ends.values().all(|end| *end > 0), "{ends:?}");
    brokers.kill_broker(OTHER_BROKER).await;
    let options = brokers
        .options("partial")
        .set("kafka.probe_interval", "500ms")
        .set("checkpoint.stall_timeout", "2s");
    let streamer = Service::start(&options).unwrap();
    ends.retain(|partition, _| leaders[usize::try_from(*partition).unwrap()] != OTHER_BROKER);
    eventually("the partitions with leaders are rows", async || {
        let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await;
        let next: BTreeMap<_, _> = checkpoints
            .unwrap_or_default()
            .iter()
            .map(|(partition, checkpoint)| (*partition, checkpoint.next_offset))
            .collect();
        if next == ends {
            Ok(())
        } else {
            Err(format!("{next:?}"))
        }
    })
    .await;
    eventually("readiness names the other partitions", async || {
        let (status, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        let named = body.contains("can't read partitions 1, 4");
        if named && status == StatusCode::SERVICE_UNAVAILABLE {
            Ok(())
        } else {
            Err(format!("{status}: {body}"))
        }
    })
    .await;
    let lag = async |partition: i32| {
        let label = format!("partition=\"{partition}\"");
        streamer.metric("streamer_lag_records", &label).await.unwrap()
    };
    eventually(
        "the lag of a partition with a leader is known",
        async || match lag(0).await {
            Some(0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    assert_eq!(
        lag(1).await,
        None,
        "the end of a partition without a leader is unknown"
    );
    // Twice the stall timeout: what can't be read does not stall.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_live(&streamer).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    brokers.restart_broker(OTHER_BROKER).await;
    streamer.wait_until_ready(DEADLINE).await.unwrap();
    brokers.assert_writes_rows().await;
    env.assert_nothing_lost_or_rejected().await;
}

/// A fenced broker returns metadata without brokers, and librdkafka then sends no more requests. Only a rebootstrap
/// recovers the client. This broker is fenced before each of its heartbeats.
#[tokio::test(flavor = "multi_thread")]
async fn empty_broker_list_triggers_rebootstrap() {
    let cluster = KafkaCluster::lease(&KafkaOptions::flapping(), Access::Exclusive)
        .await
        .unwrap();
    let env = TestEnv::without_topic("fickle").await;
    let options = env.options().set("kafka.brokers", cluster.bootstrap());
    let streamer = Service::start(&options).unwrap();
    let recoveries = async {
        for _ in 0..if is_full_test_run() { 6 } else { 2 } {
            streamer.wait_until_ready(DEADLINE).await.unwrap();
            streamer
                .wait_for_readiness(StatusCode::SERVICE_UNAVAILABLE, DEADLINE)
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(180), recoveries)
        .await
        .unwrap();
    assert_live(&streamer).await;
}

/// A member that is assigned a partition without a leader is not ready, because it cannot resolve the start offset.
async fn check_leader_outage(
    brokers: &BrokerCluster,
    mut holder: Service,
    idle: Service,
) -> (Service, Service) {
    brokers.kill_broker(LEADER).await;
    wait_until_kafka_unready(&holder).await;
    brokers.wait_until_fenced(LEADER).await;
    // The idle member holds no partition, and its coordinator is available.
    wait_until_ready(&idle).await;
    let before = assignment_count(&idle).await;
    holder.terminate(DEADLINE).await.unwrap();
    eventually("the other member is assigned the partition", async || {
        let times = assignment_count(&idle).await;
        if times > before {
            Ok(())
        } else {
            Err(format!("{times} assignments"))
        }
    })
    .await;
    wait_until_kafka_unready(&idle).await;
    assert_kafka_stays_unready(&idle).await;
    assert!(
        assigned_partitions(&idle).await.abs() < f64::EPSILON,
        "the start offset was resolved"
    );

    brokers.restart_broker(LEADER).await;
    wait_until_ready(&idle).await;
    brokers.assert_writes_rows().await;
    holder.spawn().unwrap();
    holder.wait_until_ready(DEADLINE).await.unwrap();
    let members = holder_and_idle(holder, idle).await;
    brokers.assert_writes_rows().await;
    members
}

/// Without the group's coordinator, members are not ready, even without partitions and while two brokers serve
/// metadata. They recover when the coordinator is back.
async fn check_coordinator_outage(brokers: &BrokerCluster, holder: &Service, idle: &Service) {
    brokers.kill_broker(COORDINATOR).await;
    join(wait_until_kafka_unready(holder), wait_until_kafka_unready(idle)).await;
    brokers.wait_until_fenced(COORDINATOR).await;
    join(
        assert_kafka_stays_unready(holder),
        assert_kafka_stays_unready(idle),
    )
    .await;

    brokers.restart_broker(COORDINATOR).await;
    join(wait_until_ready(holder), wait_until_ready(idle)).await;
    brokers.assert_writes_rows().await;
}

/// Topic requests are sent to an available broker, not to the killed one that cached metadata names as the controller.
/// The clients' periodic metadata refresh is disabled, because it would hide the error after seconds.
async fn check_other_broker_outage(brokers: &BrokerCluster, one: &Service, other: &Service) {
    let no_refresh = (
        "topic_metadata_refresh_interval_ms".to_owned(),
        "600000".to_owned(),
    );
    let settings = KafkaSettings {
        properties: [no_refresh].into(),
        ..settings(&brokers.cluster, &brokers.env.topic)
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| Arc::new(streamer::consumer::client::metadata(&settings).unwrap()))
        .collect();
    // Several requests connect each client to more than one broker.
    for _ in 0..3 {
        assert_all_fetch_topic_id(&clients).await;
    }
    brokers.kill_broker(OTHER_BROKER).await;
    brokers.wait_until_fenced(OTHER_BROKER).await;
    assert_all_fetch_topic_id(&clients).await;
    join(wait_until_ready(one), wait_until_ready(other)).await;
    brokers.assert_writes_rows().await;

    brokers.restart_broker(OTHER_BROKER).await;
    assert_all_fetch_topic_id(&clients).await;
    join(wait_until_ready(one), wait_until_ready(other)).await;
}

async fn assert_all_fetch_topic_id(clients: &[Arc<MetadataClient>]) {
    let results = join_all(clients.iter().map(fetch_topic_id)).await;
    let failed: Vec<_> = results.iter().filter_map(|it| it.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {CLIENTS}: {failed:?}", failed.len());
}
