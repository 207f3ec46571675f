//! Three Kafka brokers, of which one or another is away: readiness tells the truth of the partitions and of the group, and
//! liveness never fails for it.
//!
//! The group's coordinator, and the leader of the topic's only partition, are on one broker each, and on no other. So a single
//! broker takes either of them away for as long as it is gone, while the other two go on telling of the topic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::kafka::MetadataClient;
use futures::future::{join, join_all};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use reqwest::StatusCode;
use service::List;
use streamer::config::KafkaSettings;
use testkit::kafka_client::KafkaClient;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::{Service, ServiceOptions};

use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};
use crate::support::traffic::metric;

/// The laws' own bound: readiness is false so soon after a loss, and true so soon after its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// For one answer of a broker.
const ANSWER: Duration = Duration::from_secs(2);

/// The broker that alone has the topic's partition.
const LEADER: i32 = 1;
/// The broker that alone has the group.
const COORDINATOR: i32 = 2;
/// The broker that has neither.
const NEITHER: i32 = 3;

const OFFSETS: &str = "__consumer_offsets";

/// Each client is told that some broker is the controller, and any of the three may be. That none of so many is told of the one
/// that goes away comes once in 600 runs.
const ASKERS: usize = 16;

/// A env on three brokers of its own; its group is its topic.
struct Three {
    cluster: KafkaCluster,
    env: TestEnv,
}

impl Three {
    async fn new() -> Self {
        let alone = ("offsets.topic.replication.factor".to_owned(), "1".to_owned());
        let options = KafkaOptions {
            nodes: 3,
            properties: [alone].into(),
            ..KafkaOptions::default()
        };
        let cluster = KafkaCluster::lease(&options).await.unwrap();
        let mut env = TestEnv::without_topic("brokers").await;
        env.kafka = KafkaClient::new(cluster.bootstrap()).unwrap();
        env.topic = group_of(&cluster, &env).await;
        create_on_leader(&cluster, &env.topic).await;
        cluster.create_topic(&env.dead_letter_topic(), 1).await.unwrap();
        Self { cluster, env }
    }

    fn options(&self, name: &str) -> ServiceOptions {
        self.env
            .options()
            .log_name(name)
            .set("kafka.brokers", self.cluster.bootstrap())
    }

    /// Kills a broker.
    async fn lose(&self, broker: i32) {
        self.cluster.node(index(broker)).unwrap().kill().await.unwrap();
    }

    /// Waits until both others count it among those that take requests no more.
    async fn is_missed(&self, broker: i32) {
        let others = [LEADER, COORDINATOR, NEITHER]
            .into_iter()
            .filter(|it| *it != broker);
        for other in others {
            let address = self.cluster.node(index(other)).unwrap().address().to_owned();
            eventually("the cluster knows that a broker is gone", async || {
                let known = brokers(&address).await?;
                if known.contains(&broker) {
                    Err(format!("{other} knows {known:?}"))
                } else {
                    Ok(())
                }
            })
            .await;
        }
    }

    /// Starts it again, and waits until it takes requests.
    async fn give_back(&self, broker: i32) {
        self.cluster.node(index(broker)).unwrap().start().await.unwrap();
    }

    /// What is written now becomes rows.
    async fn works(&self) {
        self.env.write(&new_users(10)).await;
        self.env.wait_for_current_ends().await;
    }
}

fn index(broker: i32) -> usize {
    usize::try_from(broker - 1).unwrap()
}

fn settings(cluster: &KafkaCluster, topic: &str) -> KafkaSettings {
    KafkaSettings {
        brokers: List::of([0, 1, 2].map(|index| cluster.nodes()[index].address())),
        topic: topic.to_owned(),
        group: topic.to_owned(),
        probe_interval: ANSWER,
        ..KafkaSettings::default()
    }
}

/// The brokers that the one at `address` knows to take requests.
async fn brokers(address: &str) -> Result<Vec<i32>, String> {
    let address = address.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", address)
            .create()
            .unwrap();
        let metadata = client.fetch_metadata(None, ANSWER);
        metadata.map(|it| it.brokers().iter().map(|broker| broker.id()).collect())
    });
    asked.await.unwrap().map_err(|error| error.to_string())
}

/// A name whose group is coordinated by [`COORDINATOR`].
async fn group_of(cluster: &KafkaCluster, env: &TestEnv) -> String {
    // The brokers make their topic of groups when they are first asked for one.
    let anyone = Arc::new(streamer::consumer::client::metadata(&settings(cluster, &env.topic)).unwrap());
    eventually("there are groups", async || {
        let asked = anyone.request(MetadataClient::coordinator).await;
        let leaders = env.kafka.leaders(OFFSETS).await.unwrap();
        if leaders.is_empty() || leaders.values().any(|leader| *leader < LEADER) {
            Err(format!("{leaders:?}, {asked:?}"))
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
        .unwrap_or_else(|| panic!("broker {COORDINATOR} has no groups: {leaders:?}"))
}

/// What Kafka finds a group's partition by: the absolute hash of Java's `String`.
fn java_hash(text: &str) -> i32 {
    let hash = text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash.checked_abs().unwrap_or(0)
}

/// One partition, which only [`LEADER`] has.
async fn create_on_leader(cluster: &KafkaCluster, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        .create()
        .unwrap();
    let replicas: &[&[i32]] = &[&[LEADER]];
    let topic = NewTopic::new(topic, 1, TopicReplication::Variable(replicas));
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    for result in admin.create_topics([&topic], &options).await.unwrap() {
        result.unwrap();
    }
}

async fn held(member: &Service) -> f64 {
    metric(member, "streamer_assigned_partitions", "").await
}

/// How often it was told what it holds, be it nothing.
async fn assigned(member: &Service) -> f64 {
    metric(member, "streamer_rebalances_total", "assigned").await
}

/// Waits until both are members and one holds the partition; returns the one that does, and the one that does not.
async fn roles(one: Service, other: Service) -> (Service, Service) {
    eventually("one of two members holds the partition", async || {
        let told = (assigned(&one).await, assigned(&other).await);
        let both = (held(&one).await, held(&other).await);
        if told.0 > 0.0 && told.1 > 0.0 && (both == (1.0, 0.0) || both == (0.0, 1.0)) {
            Ok(())
        } else {
            Err(format!("told {told:?} times, hold {both:?}"))
        }
    })
    .await;
    if held(&one).await > 0.0 {
        (one, other)
    } else {
        (other, one)
    }
}

async fn is_live(member: &Service) {
    let (status, body) = member.ask("/healthz").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
}

/// Waits until `/readyz` says that Kafka is missed, for as long as the law gives.
async fn misses_kafka(member: &Service) {
    let answer = member
        .readiness(StatusCode::SERVICE_UNAVAILABLE, PATIENCE)
        .await
        .unwrap();
    let dependencies = answer["dependencies"].as_array().unwrap();
    let missed = dependencies
        .iter()
        .any(|it| it["name"] == "kafka" && it["ready"] == false);
    assert!(missed, "{answer}");
    is_live(member).await;
}

/// Looks, for as long as the law gives, whether it takes that back though nothing has come back. A question that happened to
/// fail is soon asked anew, so this is what tells it from an answer that is missed.
async fn goes_on_missing_kafka(member: &Service) {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let (status, body) = member.ask("/readyz").await.unwrap();
        let after = since.elapsed();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "after {after:?}: {body}");
        is_live(member).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until it is ready, for as long as the law gives.
async fn is_ready(member: &Service) {
    member.ready(PATIENCE).await.unwrap();
    is_live(member).await;
}

/// Waits until the topic's id is told, for as long as the law gives; the last error otherwise.
async fn tells_the_topic(asker: &Arc<MetadataClient>) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match asker.request(MetadataClient::topic).await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return Err(error);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_each_broker_outage() {
    let three = Three::new().await;
    let one = three.env.start(&three.options("one")).await;
    let other = three.env.start(&three.options("other")).await;
    let (holder, idle) = roles(one, other).await;
    three.works().await;
    let (one, other) = a_partition_that_cant_be_read_is_missed_by_who_is_given_it(&three, holder, idle).await;
    a_coordinator_is_missed_by_who_has_no_partitions(&three, &one, &other).await;
    what_was_told_of_a_broker_that_is_gone_is_asked_anew(&three, &one, &other).await;
    three.env.assert_nothing_lost_or_rejected().await;
}

/// Law `ready_turns_true`. Fenced, a broker says that there are no brokers, and librdkafka believes it: a client asks nobody any
/// more, unless it is told anew where to ask. This one is fenced before each of its heartbeats.
#[tokio::test(flavor = "multi_thread")]
async fn empty_broker_list_triggers_rebootstrap() {
    let cluster = KafkaCluster::lease(&KafkaOptions::fickle()).await.unwrap();
    let env = TestEnv::without_topic("fickle").await;
    let options = env.options().set("kafka.brokers", cluster.bootstrap());
    let streamer = Service::start(&options).unwrap();
    let returns = async {
        for _ in 0..6 {
            streamer.ready(DEADLINE).await.unwrap();
            streamer
                .readiness(StatusCode::SERVICE_UNAVAILABLE, DEADLINE)
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(180), returns)
        .await
        .unwrap();
    is_live(&streamer).await;
}

/// Law `ready_turns_false`: a member that is given a partition misses Kafka while its start can't be found.
async fn a_partition_that_cant_be_read_is_missed_by_who_is_given_it(
    three: &Three,
    mut holder: Service,
    idle: Service,
) -> (Service, Service) {
    three.lose(LEADER).await;
    misses_kafka(&holder).await;
    three.is_missed(LEADER).await;
    // It holds nothing, and its group is there.
    is_ready(&idle).await;
    let before = assigned(&idle).await;
    holder.terminate(DEADLINE).await.unwrap();
    eventually("the other is given the partition", async || {
        let times = assigned(&idle).await;
        if times > before {
            Ok(())
        } else {
            Err(format!("told {times} times"))
        }
    })
    .await;
    misses_kafka(&idle).await;
    goes_on_missing_kafka(&idle).await;
    assert!(held(&idle).await.abs() < f64::EPSILON, "its start was found");

    three.give_back(LEADER).await;
    is_ready(&idle).await;
    three.works().await;
    holder.spawn().unwrap();
    holder.ready(DEADLINE).await.unwrap();
    let roles = roles(holder, idle).await;
    three.works().await;
    roles
}

/// Law `ready_turns_false`: a member misses the group's coordinator, though it has no partitions and two brokers go on telling
/// of the topic. Law `ready_turns_true`: it is ready again soon after the coordinator is back.
async fn a_coordinator_is_missed_by_who_has_no_partitions(three: &Three, holder: &Service, idle: &Service) {
    three.lose(COORDINATOR).await;
    join(misses_kafka(holder), misses_kafka(idle)).await;
    three.is_missed(COORDINATOR).await;
    join(goes_on_missing_kafka(holder), goes_on_missing_kafka(idle)).await;

    three.give_back(COORDINATOR).await;
    join(is_ready(holder), is_ready(idle)).await;
    three.works().await;
}

/// Law `ready_turns_true`: what is asked for the topic is asked of a broker that is there, and not of one that was told to be
/// the controller and is gone. The client's own refresh of such news, which would hide it for seconds, does not come here.
async fn what_was_told_of_a_broker_that_is_gone_is_asked_anew(three: &Three, one: &Service, other: &Service) {
    let never = (
        "topic_metadata_refresh_interval_ms".to_owned(),
        "600000".to_owned(),
    );
    let settings = KafkaSettings {
        properties: [never].into(),
        ..settings(&three.cluster, &three.env.topic)
    };
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| Arc::new(streamer::consumer::client::metadata(&settings).unwrap()))
        .collect();
    // More than once, so that each is connected to more than one broker.
    for _ in 0..3 {
        all_tell_the_topic(&askers).await;
    }
    three.lose(NEITHER).await;
    three.is_missed(NEITHER).await;
    all_tell_the_topic(&askers).await;
    join(is_ready(one), is_ready(other)).await;
    three.works().await;

    three.give_back(NEITHER).await;
    all_tell_the_topic(&askers).await;
    join(is_ready(one), is_ready(other)).await;
}

async fn all_tell_the_topic(askers: &[Arc<MetadataClient>]) {
    let told = join_all(askers.iter().map(tells_the_topic)).await;
    let failed: Vec<_> = told.iter().filter_map(|it| it.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {ASKERS}: {failed:?}", failed.len());
}
