//! A broker that has lost records which it had acknowledged, as after a restored backup: the idempotent producer counts
//! on, the broker does not follow, and only a new producer can go on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::broker;
use crate::running::setup;
use crate::topic::Topic;
use crate::users::users;

/// The folder of the topic's only partition.
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
async fn a_producer_that_lost_count_is_504_and_the_end_of_the_process_and_the_next_one_goes_on() {
    let kafka = broker::own().await;
    let node = kafka.node(0).unwrap();
    let topic = Topic::fresh(&kafka.bootstrap());
    let settings = setup(&topic.brokers, &topic.name)
        .with("KAFKA__PARTITIONS", "1")
        // Time enough to see its last figures.
        .with("KAFKA__PROBE_INTERVAL", "3s");
    let publisher = settings.start().await;
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

    let ended = publisher.child.wait(Duration::from_secs(20)).await.unwrap();
    let log = publisher.child.last_lines(20);
    assert_eq!(ended.code(), Some(1), "{log}");
    assert!(log.contains("the producer can't go on"), "{log}");

    let next = setup(&topic.brokers, &topic.name).start().await;
    next.wait_until_ready().await;
    assert_eq!(next.send(&users(2)).await.0, 200);
}
