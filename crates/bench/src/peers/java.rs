//! A peer on a JVM: one source file of ours, compiled against its jars in the target folder.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::process::Program;
use testkit::servers::{Software, jars, jvm};
use testkit::workspace;

use crate::env::child;

const POM: &str = include_str!("../../peers/jvm/pom.xml");
/// Apache Spark with its connectors to Kafka and Cassandra.
pub const SPARK: Software = peer("spark");
/// Apache Flink with its connectors to Kafka and Cassandra.
pub const FLINK: Software = peer("flink");
/// Kafka Connect with Camel's connector.
pub const CONNECT: Software = peer("connect");

const fn peer(profile: &'static str) -> Software {
    Software {
        profile,
        pom: POM,
        folder: "peers",
        version: None,
    }
}

const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
/// Holds the POM and the source of the compiled classes.
const STAMP: &str = "compiled";

/// A compiled program.
#[derive(Debug, Clone)]
pub struct Java {
    jars: PathBuf,
    classes: PathBuf,
    main: &'static str,
}

impl Java {
    /// Fetches the jars and compiles `source`, whose only public class is `main`, unless both are done.
    pub async fn install(software: Software, main: &'static str, source: &'static str) -> Result<Self> {
        let jars = jars(software).await?;
        let classes = workspace::target_dir()?.join("peers").join(main);
        let java = Self { jars, classes, main };
        let stamp = format!("{}{source}", software.pom);
        let stamp_file = java.classes.join(STAMP);
        if !fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
            java.compile(source).await?;
            fs::write(&stamp_file, stamp)
                .with_context(|| format!("failed to write {}", stamp_file.display()))?;
        }
        Ok(java)
    }

    async fn compile(&self, source: &str) -> Result<()> {
        let path = self.classes.join(format!("{}.java", self.main));
        fs::create_dir_all(&self.classes)
            .and_then(|()| fs::write(&path, source))
            .with_context(|| format!("failed to write {}", path.display()))?;
        let javac = Program::new(jvm::tool("javac"))
            .args(["-nowarn", "-d"])
            .arg(&self.classes)
            .arg("-cp")
            .arg(format!("{}/*", self.jars.display()))
            .arg(&path)
            .log_to(self.classes.join("javac.log"));
        let operation = format!("compile {}", path.display());
        child::run(&operation, javac, COMPILE_TIMEOUT).await.map(drop)
    }

    /// Replaces the main class by one of the jars.
    #[must_use]
    pub fn with_main(self, main: &'static str) -> Self {
        Self { main, ..self }
    }

    /// The command that runs it with these JVM options.
    pub fn program(&self, options: impl IntoIterator<Item = String>) -> Program {
        Program::new(jvm::executable())
            .args(options)
            .arg("-cp")
            .arg(format!("{}:{}/*", self.classes.display(), self.jars.display()))
            .arg(self.main)
    }
}

/// `--add-opens` options for libraries that are older than Java 17.
pub fn add_opens(packages: &[&str]) -> Vec<String> {
    let option = |package: &&str| format!("--add-opens={package}=ALL-UNNAMED");
    packages.iter().map(option).collect()
}
