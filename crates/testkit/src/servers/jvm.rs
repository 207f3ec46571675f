//! The command line of a Java server: heap, class path, main class.
//!
//! The compiler's tiers are left alone: benches run on these servers too.

use std::path::{Path, PathBuf};

use crate::process::Program;

/// A `java` with a fixed heap, so that the server's memory use does not change.
pub(super) fn java(heap_mb: u32) -> Program {
    with_heap(executable(), heap_mb)
}

/// This `java`, as [`java`].
pub(super) fn with_heap(executable: PathBuf, heap_mb: u32) -> Program {
    Program::new(executable)
        .arg(format!("-Xms{heap_mb}m"))
        .arg(format!("-Xmx{heap_mb}m"))
        // As Kafka's and Cassandra's own start scripts.
        .args(["-XX:+UseG1GC", "-Djava.awt.headless=true", "-XX:-UsePerfData"])
        // A server that survives without memory fails tests in ways that no log explains.
        .arg("-XX:+ExitOnOutOfMemoryError")
}

/// Adds the class path and the main class. The program's own arguments follow.
pub(super) fn run(program: Program, jars: &Path, main_class: &str) -> Program {
    program
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(main_class)
}

/// The Java that Maven uses too: from `JAVA_HOME`, or else from `PATH`.
pub fn executable() -> PathBuf {
    tool("java")
}

/// A program of that Java, such as `javac`.
pub fn tool(name: &str) -> PathBuf {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin").join(name));
    home.filter(|tool| tool.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}
