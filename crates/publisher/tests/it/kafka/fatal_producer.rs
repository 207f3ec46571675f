//! A fatal error of the idempotent producer: a broker that lost acknowledged records, as after a restored backup,
//! rejects its sequence numbers. Only a new producer can continue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::broker;
use crate::support::publisher_process::{Publisher, setup};
use crate::support::sample_users::users;
use crate::support::topic::Topic;

/// The directory of the topic's only partition.
fn partition(kafka: &Path, topic: &str) -> PathBuf {
    let name = format!("{topic}-0");
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut candidates = inside(kafka).into_iter().flat_map(|folder| inside(&folder));
    candidates.find(|path| path.ends_with(&name)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn fatal_producer_error_is_504_and_exits() {
    let kafka = broker::own().await;
    let node = kafka.node(0).unwrap();
    let topic = Topic::new(&kafka.bootstrap());
    let settings = setup(&topic.brokers, &topic.name)
        .set("kafka.partitions", "1")
        // Leaves time to read the last metrics.
        .set("kafka.probe_interval", "3s");
    let publisher = Publisher::start(&settings).await;
    publisher.wait_until_ready().await;
    assert_eq!(publisher.send(&users(3)).await.0, 200);

    let backup = tempfile::tempdir().unwrap();
    node.stop().await.unwrap();
    let log = partition(node.folder(), &topic.name);
    copy(&log, backup.path());
    node.start().await.unwrap();
    publisher.wait_until_ready().await;
    assert_eq!(publisher.send(&users(5)).await.0, 200);

    node.stop().await.unwrap();
    std::fs::remove_dir_all(&log).unwrap();
    copy(backup.path(), &log);
    node.start().await.unwrap();
    publisher.wait_until_ready().await;
    let (status, body) = publisher.send(&users(2)).await;
    assert_eq!((status, &body["unknown"]), (504, &serde_json::json!(2)), "{body}");
    assert_eq!(publisher.metric("records_total{outcome=\"unknown\"}").await, 2.0);

    let ended = publisher.child().wait(Duration::from_secs(20)).await.unwrap();
    let log = publisher.service.last_lines(20);
    assert_eq!(ended.code(), Some(1), "{log}");
    assert!(log.contains("fatal error of the idempotent producer"), "{log}");

    let next = Publisher::start(&setup(&topic.brokers, &topic.name)).await;
    next.wait_until_ready().await;
    assert_eq!(next.send(&users(2)).await.0, 200);
}
