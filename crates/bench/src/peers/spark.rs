//! Spark Structured Streaming with the Cassandra connector, on two local cores: the original pipeline's design, with its
//! own schema, trigger and checkpoint folder.

use anyhow::Result;

use super::java::{Java, SPARK, add_opens};
use crate::env::cleanup;
use crate::sinks::Sink;
use crate::sinks::running::RunningSink;
use crate::sinks::target::Target;

const SOURCE: &str = include_str!("../../peers/spark/SparkSink.java");

/// Two cores and four attempts per task, as on a cluster. `local[2]` ends the query at the first failure.
const MASTER: &str = "local[2,4]";

/// Packages that Spark's own start script opens on Java 17.
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
/// `spark.cassandra.output.batch.grouping.key`: the rows that may share a batch.
const GROUPING: &str = "replica_set";
/// `spark.cassandra.output.batch.size.bytes`, in KiB.
const BATCH_KIB: u32 = 16;
/// `spark.cassandra.output.concurrent.writes`: batches in flight for each Spark task.
const CONCURRENT_WRITES: u32 = 8;

/// The installed program.
#[derive(Debug, Clone)]
pub struct Spark(Java);

impl Spark {
    /// Fetches and compiles it unless that is done.
    pub async fn install() -> Result<Self> {
        Ok(Self(Java::install(SPARK, "SparkSink", SOURCE).await?))
    }
}

fn options(target: &Target) -> Vec<String> {
    let local = target.folder.join("spark-local").display().to_string();
    let properties = [
        ("spark.master", MASTER.to_owned()),
        ("spark.ui.enabled", "false".to_owned()),
        ("spark.driver.host", "127.0.0.1".to_owned()),
        ("spark.driver.bindAddress", "127.0.0.1".to_owned()),
        ("spark.local.dir", local),
        ("spark.sql.session.timeZone", "UTC".to_owned()),
        (
            "spark.cassandra.connection.host",
            target.cassandra.ip().to_string(),
        ),
        (
            "spark.cassandra.connection.port",
            target.cassandra.port().to_string(),
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
    let mut options = add_opens(&OPENED);
    options.push("-Djdk.reflect.useDirectMethodHandle=false".to_owned());
    // The default heap of a driver that `spark-submit` starts.
    options.push("-Xmx1g".to_owned());
    options.extend(properties.map(|(name, value)| format!("-D{name}={value}")));
    options
}

impl Sink for Spark {
    fn name(&self) -> &str {
        "Spark"
    }

    fn describe(&self) -> String {
        format!(
            "{MASTER}, -Xmx1g, streaming sink, batches of {BATCH_KIB} KiB by {GROUPING}, {CONCURRENT_WRITES} writes, all \
             records per trigger"
        )
    }

    fn start(&self, target: &Target) -> Result<RunningSink> {
        let checkpoint = target.folder.join("spark-checkpoint");
        cleanup::remove_folder(&checkpoint)?;
        let child = target
            .to_environment(self.0.program(options(target)))
            .env("SPARK_LOCAL_IP", "127.0.0.1")
            .env("CHECKPOINT", checkpoint)
            .log_to(target.folder.join("spark.log"))
            .spawn()?;
        Ok(RunningSink::new(vec![child]))
    }
}
