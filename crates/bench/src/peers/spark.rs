//! Spark Structured Streaming with the Cassandra connector, on two local cores: the original pipeline's way, with its
//! own schema, trigger and checkpoint folder.

mod settings;

use settings::Settings;

use super::java::{self, Java, opened};
use super::{PeerError, Tuned, forget};
use crate::sink::{Running, Sink, SinkError, Site};

const SOURCE: &str = include_str!("../../peers/spark/SparkSink.java");

/// Two cores, and four tries of a task, as a cluster has them: `local[2]` gives up the query at the first failure.
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

/// An installed Spark.
#[derive(Debug, Clone)]
pub struct Spark {
    java: Java,
    name: String,
    settings: Settings,
}

impl Spark {
    /// Installs it if need be.
    ///
    /// # Errors
    /// When Maven does not give it.
    pub async fn install() -> Result<Self, PeerError> {
        Ok(Self {
            java: Java::install(java::SPARK, "SparkSink", SOURCE).await?,
            name: "Spark".to_owned(),
            settings: Settings::BEST,
        })
    }

    fn options(&self, site: &Site) -> Vec<String> {
        let local = site.folder.join("spark-local").display().to_string();
        let places = [
            ("spark.master", MASTER.to_owned()),
            ("spark.ui.enabled", "false".to_owned()),
            ("spark.driver.host", "127.0.0.1".to_owned()),
            ("spark.driver.bindAddress", "127.0.0.1".to_owned()),
            ("spark.local.dir", local),
            ("spark.sql.session.timeZone", "UTC".to_owned()),
            ("spark.cassandra.connection.host", site.cassandra.ip().to_string()),
            (
                "spark.cassandra.connection.port",
                site.cassandra.port().to_string(),
            ),
        ];
        let properties = places.into_iter().chain(self.settings.properties());
        let mut options = opened(&OPENED);
        options.push("-Djdk.reflect.useDirectMethodHandle=false".to_owned());
        // What `spark-submit` gives a driver that asks for nothing else.
        options.push("-Xmx1g".to_owned());
        options.extend(properties.map(|(name, value)| format!("-D{name}={value}")));
        options
    }
}

impl Tuned for Spark {
    type Settings = Settings;

    fn settings() -> Vec<Settings> {
        Settings::candidates()
    }

    fn with(&self, settings: Settings) -> Self {
        Self {
            name: settings.label(),
            settings,
            ..self.clone()
        }
    }
}

impl Sink for Spark {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        format!("{MASTER}, -Xmx1g, {}", self.settings.label())
    }

    fn start(&self, site: &Site) -> Result<Running, SinkError> {
        let checkpoint = site.folder.join("spark-checkpoint");
        forget(&checkpoint)?;
        let mut program = self
            .java
            .program(self.options(site))
            .env("SPARK_LOCAL_IP", "127.0.0.1")
            .env("BROKERS", &site.brokers)
            .env("TOPIC", &site.topic)
            .env("KEYSPACE", &site.keyspace)
            .env("TABLE", &site.table)
            .env("CHECKPOINT", checkpoint)
            .env("SINK", self.settings.sink);
        if let Some(most) = self.settings.max_offsets {
            program = program.env("MAX_OFFSETS_PER_TRIGGER", most.to_string());
        }
        let child = program.log_to(site.folder.join("spark.log")).spawn()?;
        Ok(Running::new(vec![child]))
    }
}
