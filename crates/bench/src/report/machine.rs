//! The machine and the versions of everything that takes part in a measurement.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use testkit::servers::jvm;
use testkit::workspace;

const POM: &str = include_str!("../../../testkit/servers/pom.xml");
const PEERS: &str = include_str!("../../peers/jvm/pom.xml");
/// Peers with their property of the POM.
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
/// Crates that determine the measured speed.
const CRATES: [&str; 5] = [
    "rdkafka",
    "rdkafka-sys",
    "cdrs-tokio",
    "tokio",
    "tikv-jemallocator",
];

/// The measured machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel name and release.
    pub kernel: String,
}

impl Machine {
    /// Reads this machine from `/proc`; unknown fields are empty.
    pub fn current() -> Self {
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

/// Returns the first value of `name: value` lines.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Versions of servers, libraries and tools. Unknown versions are left out.
pub fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for server in ["kafka", "cassandra"] {
        versions.extend(xml_text(POM, &format!("{server}.version")).map(|it| (server.to_owned(), it)));
    }
    let root = workspace::root().unwrap_or_default();
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    for name in CRATES {
        versions.extend(locked_version(&lock, name).map(|it| (name.to_owned(), it)));
    }
    let root = root.display().to_string();
    let git = ["-C", &root, "describe", "--always", "--dirty"];
    let java = jvm::executable().display().to_string();
    let tools = [
        ("affluent", first_line("git", &git)),
        ("rustc", first_line("rustc", &["--version"])),
        ("java", first_line(&java, &["--version"])),
    ];
    let known = tools
        .into_iter()
        .filter_map(|(name, version)| Some((name.to_owned(), version?)));
    versions.extend(known);
    versions
}

/// Pinned versions of the peers.
pub fn peer_versions() -> BTreeMap<String, String> {
    let of_jvm = JVM_PEERS
        .iter()
        .filter_map(|(name, tag)| Some(((*name).to_owned(), xml_text(PEERS, tag)?)));
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

/// Returns the text of an XML element.
fn xml_text(text: &str, tag: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once("</")?.0.to_owned())
}

/// Returns a package's version in `Cargo.lock`.
fn locked_version(lock: &str, name: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// Returns the first line of a program's output.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then_some(())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_and_versions_are_read() {
        let machine = Machine::current();
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
    fn locked_version_needs_the_whole_package_name() {
        let lock =
            "name = \"rdkafka-sys\"\nversion = \"4.10.0\"\n\nname = \"rdkafka\"\nversion = \"0.39.0\"\n";
        assert_eq!(locked_version(lock, "rdkafka").as_deref(), Some("0.39.0"));
        assert_eq!(locked_version(lock, "kafka"), None);
    }
}
