//! Spark Structured Streaming with the Cassandra connector on two local cores, as in the original pipeline.
//!
//! It has its own schema, trigger and checkpoint folder.

use super::java::{self, Java, opened};
use super::{PeerError, remove_leftovers};
use crate::sink::{RunningSink, Sink, SinkConfig, SinkError};

const SOURCE: &str = include_str!("../../peers/spark/SparkSink.java");

/// Two cores, and four attempts of a task, as on a cluster: `local[2]` ends the query at the first failure.
const MASTER: &str = "local[2,4]";

/// What Spark's own start script opens on Java 17.
const OPENED: [&str; 15] = [
    "java.base/java.lang",
    "java.base/java.lang.invoke",
    "java.base/java.lang.reflect",
    "java.base/java.io",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/sun.nio.cs",
    "java.base/sun.security.action",
    "java.base/sun.util.calendar",
    "java.security.jgss/sun.security.krb5",
];

/// `foreachBatch` would be `batch`.
const SINK: &str = "streaming";
/// `spark.cassandra.output.batch.grouping.key`: which rows may share a batch.
const GROUPING: &str = "replica_set";
/// `spark.cassandra.output.batch.size.bytes`, in KiB: the maximum size of a batch.
const BATCH_KIB: u32 = 16;
/// `spark.cassandra.output.concurrent.writes`: batches in flight for each of Spark's tasks.
const CONCURRENT_WRITES: u32 = 8;

/// An installed Spark.
#[derive(Debug, Clone)]
pub struct Spark {
    java: Java,
}

impl Spark {
    /// Installs Spark unless it is already installed.
    ///
    /// # Errors
    /// When the download or the compilation fails.
    pub async fn install() -> Result<Self, PeerError> {
        let java = Java::install(java::SPARK, "SparkSink", SOURCE).await?;
        Ok(Self { java })
    }
}

/// The JVM's options, Spark's properties among them.
fn options(config: &SinkConfig) -> Vec<String> {
    let properties = [
        ("spark.master", MASTER.to_owned()),
        ("spark.ui.enabled", "false".to_owned()),
        ("spark.driver.host", "127.0.0.1".to_owned()),
        ("spark.driver.bindAddress", "127.0.0.1".to_owned()),
        (
            "spark.local.dir",
            config.folder.join("spark-local").display().to_string(),
        ),
        ("spark.sql.session.timeZone", "UTC".to_owned()),
        (
            "spark.cassandra.connection.host",
            config.cassandra.ip().to_string(),
        ),
        (
            "spark.cassandra.connection.port",
            config.cassandra.port().to_string(),
        ),
        ("spark.cassandra.output.batch.grouping.key", GROUPING.to_owned()),
        (
            "spark.cassandra.output.batch.size.bytes",
            (BATCH_KIB * 1_024).to_string(),
        ),
        (
            "spark.cassandra.output.concurrent.writes",
            CONCURRENT_WRITES.to_string(),
        ),
        (
            "spark.cassandra.output.consistency.level",
            "LOCAL_QUORUM".to_owned(),
        ),
    ];
    let mut options = opened(&OPENED);
    options.push("-Djdk.reflect.useDirectMethodHandle=false".to_owned());
    // The default of `spark-submit` for a driver.
    options.push("-Xmx1g".to_owned());
    options.extend(properties.map(|(name, value)| format!("-D{name}={value}")));
    options
}

impl Sink for Spark {
    fn name(&self) -> &'static str {
        "Spark"
    }

    fn describe(&self) -> String {
        format!(
            "{MASTER}, -Xmx1g, {SINK} sink, batches of {BATCH_KIB} KiB by {GROUPING}, {CONCURRENT_WRITES} writes, all a \
             trigger"
        )
    }

    fn start(&self, config: &SinkConfig) -> Result<RunningSink, SinkError> {
        let checkpoint = config.folder.join("spark-checkpoint");
        remove_leftovers(&checkpoint)?;
        let child = self
            .java
            .program(options(config))
            .env("SPARK_LOCAL_IP", "127.0.0.1")
            .env("BROKERS", &config.brokers)
            .env("TOPIC", &config.topic)
            .env("KEYSPACE", &config.keyspace)
            .env("TABLE", &config.table)
            .env("CHECKPOINT", checkpoint)
            .env("SINK", SINK)
            .log_to(config.folder.join("spark.log"))
            .spawn()?;
        Ok(RunningSink::new(vec![child]))
    }
}
