//! A broker that responds at its bootstrap address and advertises one that does not.

use std::time::{Duration, Instant};

use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions};
use testkit::service::Service;

use crate::support::commands::run_command;
use crate::support::test_env::{DEADLINE, TestEnv, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_advertised_address_is_named_in_readiness() {
    let cluster = KafkaCluster::lease(&KafkaOptions::unusual(), Access::Shared)
        .await
        .unwrap();
    let env = TestEnv::without_topic("advertised").await;
    for topic in [env.topic.clone(), env.dead_letter_topic()] {
        cluster.create_topic(&topic, 3).await.unwrap();
    }
    let options = env.options().set("kafka.brokers", cluster.second_bootstrap());
    let (started, streamer) = (Instant::now(), Service::start(&options).unwrap());
    let names = [KafkaOptions::UNREACHABLE.to_string(), "refused".to_owned()];
    eventually("readiness names the address", async || {
        let (status, body) = streamer.get("/readyz").await.map_err(|error| error.to_string())?;
        assert_eq!(status, 503, "{body}");
        match names.iter().all(|name| body.contains(name)) {
            true => Ok(()),
            false => Err(body),
        }
    })
    .await;
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
    // It stays unready.
    while started.elapsed() < Duration::from_secs(10) {
        let (status, body) = streamer.get("/readyz").await.unwrap();
        assert_eq!(status, 503, "{body}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (code, output) = tokio::time::timeout(DEADLINE, run_command(options, "status"))
        .await
        .unwrap();
    assert_eq!(code, Some(1), "{output}");
    assert!(names.iter().all(|name| output.contains(name)), "{output}");
}
