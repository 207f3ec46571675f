//! Other versions of the servers than those of the POM, for a whole run: `scripts/compatibility` sets these variables.

use std::env;
use std::path::{Path, PathBuf};

use super::jvm;

/// Kafka's version.
pub(super) const KAFKA: &str = "AFFLUENT_TEST_KAFKA";
/// Cassandra's version.
pub(super) const CASSANDRA: &str = "AFFLUENT_TEST_CASSANDRA";
/// The home of the Java that runs Cassandra: versions before 5 need 11.
const CASSANDRA_JAVA: &str = "AFFLUENT_TEST_CASSANDRA_JAVA";

/// The version that this variable sets.
pub(super) fn of(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|version| !version.is_empty())
}

/// Whether this variable sets a version below `major.minor`.
pub(super) fn is_below(variable: &str, major: u32, minor: u32) -> bool {
    of(variable).is_some_and(|version| parts(&version) < (major, minor))
}

fn parts(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The `java` that runs Cassandra and its `nodetool`.
pub(super) fn cassandra_java() -> PathBuf {
    env::var_os(CASSANDRA_JAVA).map_or_else(jvm::executable, |home| Path::new(&home).join("bin").join("java"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(parts("2.8.2") < (3, 3) && parts("4.0.17") < (4, 1));
        assert!(parts("10.0") > (9, 9) && parts("4.1.9") == (4, 1));
    }
}
