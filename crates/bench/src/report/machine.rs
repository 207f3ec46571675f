//! The machine and the versions of a measurement.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use testkit::servers::jvm;
use testkit::workspace;

const POM: &str = include_str!("../../../testkit/servers/pom.xml");
const PEERS: &str = include_str!("../../peers/jvm/pom.xml");
/// Display names of the versions in the pom.
const JVM_PEERS: [(&str, &str); 6] = [
    ("spark", "spark.version"),
    ("spark-cassandra-connector", "spark.cassandra.version"),
    ("flink", "flink.version"),
    ("flink-connector-cassandra", "flink.cassandra.version"),
    ("camel-kafka-connector", "camel.connector.version"),
    ("camel-cassandraql", "camel.version"),
];
const GO_PEERS: &str = include_str!("../../peers/benthos/go.mod");
const PYTHON_PEERS: &str = include_str!("../../peers/python/requirements.txt");
/// The crates whose versions matter.
const CRATES: [&str; 5] = [
    "rdkafka",
    "rdkafka-sys",
    "cdrs-tokio",
    "tokio",
    "tikv-jemallocator",
];

/// The machine of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU model.
    pub cpu: String,
    /// Number of cores available.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel name and release.
    pub kernel: String,
}

impl Machine {
    /// Reads this machine. Values that `/proc` lacks are empty.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let kib: u64 = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.trim_end_matches(" kB").parse().ok())
            .unwrap_or(0);
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mib: kib / 1024,
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        }
    }
}

/// The first `name: value` line of a file.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The versions of all components. Unknown versions are left out.
pub fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for server in ["kafka", "cassandra"] {
        versions.extend(tagged(POM, &format!("{server}.version")).map(|it| (server.to_owned(), it)));
    }
    let root = workspace::root().unwrap_or_default();
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    for name in CRATES {
        versions.extend(locked(&lock, name).map(|it| (name.to_owned(), it)));
    }
    let git = [
        "-C",
        root.display().to_string().as_str(),
        "describe",
        "--always",
        "--dirty",
    ]
    .map(str::to_owned);
    versions.extend(first_output_line("git", &git).map(|it| ("affluent".to_owned(), it)));
    versions.extend(first_output_line("rustc", &["--version".to_owned()]).map(|it| ("rustc".to_owned(), it)));
    let java = jvm::executable().display().to_string();
    versions.extend(first_output_line(&java, &["--version".to_owned()]).map(|it| ("java".to_owned(), it)));
    versions
}

/// The pinned versions of the peers.
pub fn peer_versions() -> BTreeMap<String, String> {
    let of_jvm = JVM_PEERS
        .iter()
        .filter_map(|(name, tag)| Some(((*name).to_owned(), tagged(PEERS, tag)?)));
    let of_go = GO_PEERS.lines().filter_map(|line| {
        let version = line.strip_prefix("require github.com/benthosdev/benthos/v4 v")?;
        Some(("benthos".to_owned(), version.trim().to_owned()))
    });
    let of_python = PYTHON_PEERS.lines().filter_map(|line| {
        let (name, version) = line.split_once("==")?;
        Some((name.to_owned(), version.trim().to_owned()))
    });
    of_jvm.chain(of_go).chain(of_python).collect()
}

/// The text of an XML element.
fn tagged(text: &str, tag: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once("</")?.0.to_owned())
}

/// A package's version in `Cargo.lock`.
fn locked(lock: &str, name: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The first line of a program's output.
fn first_output_line(program: &str, arguments: &[String]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then_some(())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_and_versions_are_known() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
        let versions = versions();
        for name in ["kafka", "cassandra", "rdkafka", "cdrs-tokio"] {
            assert!(versions.contains_key(name), "{name} in {versions:?}");
        }
    }

    #[test]
    fn peer_versions_are_the_pinned_ones() {
        let versions = peer_versions();
        assert_eq!(versions.len(), JVM_PEERS.len() + 1 + 3, "{versions:?}");
        assert!(versions["benthos"].starts_with("4.") && versions["spark"].starts_with("3.5"));
        assert!(versions.contains_key("confluent-kafka"), "{versions:?}");
    }

    #[test]
    fn version_belongs_to_the_exact_package_name() {
        let lock =
            "name = \"rdkafka-sys\"\nversion = \"4.10.0\"\n\nname = \"rdkafka\"\nversion = \"0.39.0\"\n";
        assert_eq!(locked(lock, "rdkafka").as_deref(), Some("0.39.0"));
        assert_eq!(locked(lock, "kafka"), None);
    }
}
