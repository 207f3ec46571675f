//! A consumer that fetches from a follower (`client.rack`), whose end of the log may be behind the leader's.

use std::time::{Duration, Instant};

use rdkafka::admin::{NewTopic, TopicReplication};
use testkit::kafka_client::KafkaClient;
use testkit::proxy::{Behavior, Flow, Proxy};
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::Service;

use super::broker_outages::create_topic;
use crate::support::test_env::{TestEnv, eventually, new_users};
use crate::support::traffic::metric;

/// The broker that leads the partition, in `rack-1`.
const LEADER: i32 = 1;
/// The broker in the streamer's rack.
const FOLLOWER: i32 = 2;
const FOLLOWER_RACK: &str = "rack-2";

/// Records before the follower falls behind, and those that it lacks.
const REPLICATED: usize = 50;
const MISSING: usize = 500;

/// Longer than the streamer takes to request the leader's end, and to read up to it again: two seconds each, and as long
/// for the request itself.
const OBSERVED: Duration = Duration::from_secs(8);

/// Two brokers, of which the second replicates through a proxy.
struct Racks {
    /// Keeps the lease.
    _cluster: KafkaCluster,
    replication: Proxy,
    env: TestEnv,
    bootstrap: String,
}

impl Racks {
    async fn new() -> Self {
        // Nothing is replicated before there is a topic.
        let replication = Proxy::start(KafkaOptions::UNREACHABLE).await.unwrap();
        let options = KafkaOptions::two_racks(replication.address());
        let cluster = KafkaCluster::lease(&options, Access::Exclusive).await.unwrap();
        replication.retarget(cluster.internal_listener());
        let bootstrap = cluster.bootstrap();
        let mut env = TestEnv::without_topic("follower").await;
        env.kafka = KafkaClient::new(&bootstrap).unwrap();
        let replicas: &[&[i32]] = &[&[LEADER, FOLLOWER]];
        for name in [env.topic.clone(), env.dead_letter_topic()] {
            let topic = NewTopic::new(&name, 1, TopicReplication::Variable(replicas));
            create_topic(&bootstrap, &topic).await;
        }
        Self {
            _cluster: cluster,
            replication,
            env,
            bootstrap,
        }
    }

    async fn start_streamer(&self) -> Service {
        let options = self
            .env
            .options()
            .set("kafka.brokers", &self.bootstrap)
            .set("kafka.probe_interval", "500ms")
            .set("kafka.properties.client_rack", FOLLOWER_RACK);
        self.env.start(&options).await
    }

    /// The checkpoint's offset, and then the number of rows.
    async fn checkpoint_and_rows(&self) -> (i64, i64) {
        let checkpoint = self.env.checkpoint_sum().await;
        (checkpoint, self.env.cassandra.count().await.unwrap())
    }
}

/// The follower has left the in-sync replicas, so the leader's end is further than the follower's. A consumer stays at a
/// follower that it was sent to. Both of its own ends are the follower's, with nothing between them.
#[tokio::test(flavor = "multi_thread")]
async fn lagging_follower_moves_no_checkpoint_past_its_records() {
    let racks = Racks::new().await;
    let env = &racks.env;
    let streamer = racks.start_streamer().await;
    // The leader sends a consumer to an in-sync follower at the next fetch.
    for _ in 0..2 {
        env.write(&new_users(REPLICATED / 2)).await;
        env.wait_for_current_ends().await;
    }
    racks.replication.set(Behavior::both(Flow::hold()));
    // They are acknowledged once the leader is the only in-sync replica.
    env.write(&new_users(MISSING)).await;
    eventually("the lag is what the follower lacks", async || {
        let lag = metric(&streamer, "streamer_lag_records", "").await;
        if (lag - MISSING as f64).abs() < 0.5 {
            Ok(())
        } else {
            Err(lag.to_string())
        }
    })
    .await;

    let replicated = i64::try_from(REPLICATED).unwrap();
    let until = Instant::now() + OBSERVED;
    while Instant::now() < until {
        let (checkpoint, rows) = racks.checkpoint_and_rows().await;
        assert_eq!(rows, replicated, "the streamer does not read the follower");
        assert_eq!(checkpoint, rows, "the checkpoint is beyond the rows");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let restarts = streamer.metric("streamer_restarts_total", "").await.unwrap();
    assert_eq!(restarts, None, "the end was not verified in this time");

    racks.replication.set(Behavior::default());
    env.assert_nothing_lost_or_rejected().await;
    assert_eq!(
        env.cassandra.count().await.unwrap(),
        i64::try_from(REPLICATED + MISSING).unwrap()
    );
}
