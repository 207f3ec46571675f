//! A peer on a JVM: one source file in this repository over downloaded jars, compiled once into the target folder.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{PeerError, file_error};
use testkit::process::Program;
use testkit::servers::{Software, jars, jvm};
use testkit::workspace;

const POM: &str = include_str!("../../peers/jvm/pom.xml");
/// Apache Spark with its connectors to Kafka and Cassandra.
pub(super) const SPARK: Software = peer("spark");
/// Apache Flink with the same.
pub(super) const FLINK: Software = peer("flink");
/// Kafka Connect with Camel's connector.
pub(super) const CONNECT: Software = peer("connect");

const fn peer(profile: &'static str) -> Software {
    Software {
        profile,
        pom: POM,
        folder: "peers",
    }
}

const COMPILE_TIMEOUT: Duration = Duration::from_secs(120);
/// File that records the sources of the compiled classes.
const STAMP: &str = "compiled";

/// A compiled program.
#[derive(Debug, Clone)]
pub(super) struct Java {
    jars: PathBuf,
    classes: PathBuf,
    main: &'static str,
}

impl Java {
    /// Downloads the jars and compiles `source`, whose only public class is `main`, unless already done.
    pub(super) async fn install(
        software: Software,
        main: &'static str,
        source: &'static str,
    ) -> Result<Self, PeerError> {
        let jars = jars(software).await?;
        let classes = workspace::target_dir()?.join("peers").join(main);
        let java = Self { jars, classes, main };
        let stamp = format!("{}{source}", software.pom);
        let stamped = java.classes.join(STAMP);
        if !fs::read_to_string(&stamped).is_ok_and(|found| found == stamp) {
            java.compile(source).await?;
            fs::write(&stamped, stamp).map_err(file_error(&stamped))?;
        }
        Ok(java)
    }

    async fn compile(&self, source: &str) -> Result<(), PeerError> {
        fs::create_dir_all(&self.classes).map_err(file_error(&self.classes))?;
        let path = self.classes.join(format!("{}.java", self.main));
        fs::write(&path, source).map_err(file_error(&path))?;
        let child = Program::new(jvm::tool("javac"))
            .args(["-nowarn", "-d"])
            .arg(&self.classes)
            .arg("-cp")
            .arg(format!("{}/*", self.jars.display()))
            .arg(&path)
            .log_to(self.classes.join("javac.log"))
            .spawn()?;
        if child.wait(COMPILE_TIMEOUT).await?.success() {
            Ok(())
        } else {
            Err(PeerError::Install {
                what: "javac",
                log: child.last_lines(20),
            })
        }
    }

    /// Uses a main class of the jars.
    pub(super) fn with_main(self, main: &'static str) -> Self {
        Self { main, ..self }
    }

    /// The command that runs the program with these JVM options.
    pub(super) fn program(&self, options: impl IntoIterator<Item = String>) -> Program {
        Program::new(jvm::executable())
            .args(options)
            .arg("-cp")
            .arg(format!("{}:{}/*", self.classes.display(), self.jars.display()))
            .arg(self.main)
    }
}

/// `--add-opens` options for packages that libraries older than Java 17 access.
pub(super) fn opened(packages: &[&str]) -> Vec<String> {
    let open = |package: &&str| format!("--add-opens={package}=ALL-UNNAMED");
    packages.iter().map(open).collect()
}
