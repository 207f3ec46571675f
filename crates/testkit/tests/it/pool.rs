//! The server pool on a real Kafka: shared and exclusive leases, and repair between two of them.

use std::sync::Arc;
use std::time::Duration;

use testkit::servers::pool::Access;
use testkit::servers::{KafkaCluster, KafkaOptions, Pool};

/// Room for two nodes of 812 MiB, so that a third lease has to wait.
const BUDGET_MIB: u64 = 1_700;

#[tokio::test(flavor = "multi_thread")]
async fn pool_shares_repairs_and_reuses_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let pool = Arc::new(Pool::new(folder.path().to_path_buf(), BUDGET_MIB));
    let serving = tokio::spawn(Arc::clone(&pool).serve(Pool::bind(&socket).unwrap()));
    let options = KafkaOptions::default();
    let lease = |access| KafkaCluster::from_pool(&socket, &options, access);

    let (one, other) = tokio::try_join!(lease(Access::Shared), lease(Access::Shared)).unwrap();
    assert_eq!(one.bootstrap(), other.bootstrap());
    assert_eq!(pool.starts(), 1, "a shared cluster is started once");

    let first = lease(Access::Exclusive).await.unwrap();
    let address = first.bootstrap();
    assert_ne!(address, one.bootstrap(), "nobody shares an exclusive cluster");
    first.create_topic("before", 1).await.unwrap();
    first.node(0).unwrap().kill().await.unwrap();
    first.node(0).unwrap().start().await.unwrap();
    first.node(0).unwrap().freeze().await.unwrap();
    drop(first);

    // The pool continues the frozen node before it leases the cluster again.
    let second = lease(Access::Exclusive).await.unwrap();
    assert_eq!(second.bootstrap(), address, "the cluster is reused");
    assert!(second.node(0).unwrap().is_ready().await);
    second.create_topic("after", 1).await.unwrap();
    assert_eq!(pool.starts(), 2);

    let third = tokio::time::timeout(Duration::from_millis(500), lease(Access::Exclusive)).await;
    assert!(third.is_err(), "two tests never share an exclusive cluster");
    drop(second);
    serving.abort();
}
