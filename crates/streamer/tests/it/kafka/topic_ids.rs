//! Brokers without topic ids: Kafka before 2.8, and a cluster in a rolling upgrade to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::kafka::MetadataClient;
use streamer::config::KafkaSettings;
use testkit::kafka_client::KafkaClient;
use testkit::proxy::{Proxy, WITHOUT_TOPIC_IDS, remote_addresses};
use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::Service;
use uuid::Uuid;

use crate::support::commands::stop;
use crate::support::test_env::{DEADLINE, TestEnv, eventually, new_users};
use crate::support::traffic::metric;

/// Records of each step.
const RECORDS: usize = 10;

/// A broker behind a proxy, which reports topic ids or not.
struct UpgradedBroker {
    cluster: KafkaCluster,
    proxy: Proxy,
    env: TestEnv,
    /// The topic's id.
    id: Uuid,
}

impl UpgradedBroker {
    async fn new() -> Self {
        let cluster = KafkaCluster::lease(&KafkaOptions::unusual(), Access::Shared)
            .await
            .unwrap();
        let [advertised, own] = cluster.proxied_listener();
        let proxy = Proxy::start_at(advertised, own).await.unwrap();
        let mut env = TestEnv::without_topic("topicids").await;
        env.kafka = KafkaClient::new(cluster.bootstrap()).unwrap();
        for topic in [env.topic.clone(), env.dead_letter_topic()] {
            cluster.create_topic(&topic, 1).await.unwrap();
        }
        let id = reported_id(&cluster.bootstrap(), &env.topic).await;
        assert!(!id.is_nil());
        Self {
            cluster,
            proxy,
            env,
            id,
        }
    }

    /// From now on every connection is one to a broker with topic ids, or to one without.
    fn report_ids(&self, reports: bool) {
        self.proxy
            .limit_versions(if reports { &[] } else { WITHOUT_TOPIC_IDS });
        self.proxy.reset();
    }

    fn start(&self) -> Service {
        let options = self
            .env
            .options()
            .set("kafka.brokers", self.proxy.address().to_string())
            .set("kafka.probe_interval", "500ms");
        Service::start(&options).unwrap()
    }

    /// Writes records, which the streamer's process must read as its `step`th ones and as the only ones since the step
    /// before. The checkpoint then has the id `known`.
    async fn assert_step(&self, streamer: &Service, step: usize, known: Uuid) {
        let env = &self.env;
        streamer.wait_until_ready(DEADLINE).await.unwrap();
        env.write(&new_users(RECORDS)).await;
        env.wait_for_current_ends().await;
        let end = env.kafka.end_offsets(&env.topic).await.unwrap()[&0];
        eventually("a probe has read the topic since then", async || {
            let probed = metric(streamer, "streamer_end_offset", "").await;
            if (probed - end as f64).abs() < 0.5 {
                Ok(())
            } else {
                Err(probed.to_string())
            }
        })
        .await;
        let read = streamer.metric("streamer_records_total", "").await.unwrap();
        assert_eq!(read, Some((step * RECORDS) as f64), "records were read again");
        // It has no series before the first restart.
        let restarts = streamer.metric("streamer_restarts_total", "").await.unwrap();
        assert_eq!(restarts, None, "the topic was taken for a recreated one");
        let checkpoints = env.cassandra.checkpoints(&env.topic, &env.topic).await.unwrap();
        assert_eq!(checkpoints[&0].topic_id, known);
        let peers = remote_addresses(streamer.child().unwrap().pid()).unwrap();
        assert!(peers.contains(&self.proxy.address()), "{peers:?}");
        for direct in [
            self.cluster.bootstrap(),
            self.cluster.proxied_listener()[1].to_string(),
        ] {
            assert!(!peers.contains(&direct.parse().unwrap()), "{peers:?}");
        }
    }

    /// Checks what the broker behind the proxy reports to a new client.
    async fn assert_reported(&self, id: Uuid) {
        let address = self.proxy.address().to_string();
        assert_eq!(reported_id(&address, &self.env.topic).await, id);
    }
}

/// Returns the id that the broker at `address` reports of a topic.
async fn reported_id(address: &str, topic: &str) -> Uuid {
    let settings = KafkaSettings {
        brokers: serde_json::from_value(serde_json::json!([address])).unwrap(),
        topic: Some(topic.to_owned().try_into().unwrap()),
        ..KafkaSettings::default()
    };
    let client = Arc::new(streamer::consumer::client::metadata(&settings).unwrap());
    let until = Instant::now() + DEADLINE;
    loop {
        // A broker may learn of a new topic later than the controller.
        match client.request(MetadataClient::topic).await {
            Ok(topic) => return topic.id,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A nil id is unknown: neither a checkpoint with one nor a broker that reports one is of another topic.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_upgrade_to_topic_ids_reads_no_record_again() {
    let broker = UpgradedBroker::new().await;
    broker.report_ids(false);
    broker.assert_reported(Uuid::nil()).await;
    let mut streamer = broker.start();
    broker.assert_step(&streamer, 1, Uuid::nil()).await;

    // The first start that knows the id adds it to the checkpoint, which keeps it.
    for reports in [true, false] {
        stop(&mut streamer).await;
        broker.report_ids(reports);
        streamer.spawn().unwrap();
        broker.assert_step(&streamer, 1, broker.id).await;
    }

    for (step, reports) in (2..).zip([true, false, true]) {
        broker.report_ids(reports);
        broker
            .assert_reported(if reports { broker.id } else { Uuid::nil() })
            .await;
        broker.assert_step(&streamer, step, broker.id).await;
    }

    stop(&mut streamer).await;
    streamer.spawn().unwrap();
    broker.assert_step(&streamer, 1, broker.id).await;
    broker.env.assert_nothing_lost_or_rejected().await;
}
