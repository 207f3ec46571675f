//! The command line of a Java server: heap, class path, main class.
//!
//! The compiler's tiers are left alone: benches run on these servers too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{ProcessError, Program};

/// The classes that a server had loaded after its start, beside its jars. With them the next start takes 40 % less CPU time
/// in Kafka, and 30 % less in Cassandra.
const CLASSES: &str = "classes.jsa";

/// Writing them takes 3 s on an idle machine.
const CLASSES_TIMEOUT: Duration = Duration::from_secs(60);

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
    let classes = jars.join(CLASSES);
    let program = if classes.exists() {
        program
            // Java ends if it is to read an archive and to prepare another.
            .arg("-XX:-RecordDynamicDumpInfo")
            .arg(format!("-XX:SharedArchiveFile={}", classes.display()))
    } else {
        program
    };
    program
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(main_class)
}

/// Keeps the classes that this server has loaded for later starts, unless there are some. Its Java must run with
/// `-XX:+RecordDynamicDumpInfo`, which slows the start down; without it nothing is kept.
///
/// # Errors
/// When `jcmd` is absent or does not end.
pub(super) async fn keep_classes(jars: &Path, pid: u32) -> Result<(), ProcessError> {
    let partial = jars.join(format!("{CLASSES}.{pid}"));
    if jars.join(CLASSES).exists() {
        return Ok(());
    }
    let dump = Program::new(tool("jcmd"))
        .args([&pid.to_string(), "VM.cds", "dynamic_dump"])
        .arg(partial.display().to_string());
    dump.spawn()?.wait(CLASSES_TIMEOUT).await?;
    // Without the option there is no file to rename.
    let _ = fs::rename(partial, jars.join(CLASSES));
    Ok(())
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
