//! The command line of a Java server: heap, class path, main class.
//!
//! The compiler's tiers are left alone: benches run on these servers too.

use std::path::{Path, PathBuf};

use crate::process::Program;

/// A `java` with a fixed heap, so that the server's memory is settled from the start.
pub(super) fn java(heap_mb: u32) -> Program {
    Program::new(executable())
        .arg(format!("-Xms{heap_mb}m"))
        .arg(format!("-Xmx{heap_mb}m"))
        // Kafka and Cassandra both ask for it in their own start scripts.
        .args(["-XX:+UseG1GC", "-Djava.awt.headless=true", "-XX:-UsePerfData"])
        // Half alive without memory it would fail tests in ways that no log explains.
        .arg("-XX:+ExitOnOutOfMemoryError")
}

/// Adds the class path and the main class, after which come the program's own arguments.
pub(super) fn run(program: Program, jars: &Path, main_class: &str) -> Program {
    program
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(main_class)
}

/// The Java that Maven takes too: that of `JAVA_HOME`, else the one on the path.
pub fn executable() -> PathBuf {
    tool("java")
}

/// A program of the same Java.
pub fn tool(name: &str) -> PathBuf {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin").join(name));
    home.filter(|tool| tool.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}
