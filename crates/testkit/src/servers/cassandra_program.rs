//! A node's command line: what its own start script would pass to Java.

use std::path::Path;

use super::{CassandraOptions, jvm};
use crate::process::Program;

/// Java 17 hides these packages; Cassandra's own start script opens them the same way.
const EXPORTS: [&str; 9] = [
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "java.base/java.lang.ref",
    "jdk.unsupported/sun.misc",
];

/// As [`EXPORTS`], for reflection.
const OPENS: [&str; 17] = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.lang",
    "java.base/java.math",
    "java.base/java.net",
];

/// Cassandra on the configuration that lies in `folder`, with this port for `nodetool`.
pub(super) fn program(
    options: &CassandraOptions,
    folder: &Path,
    jars: &Path,
    management: Option<u16>,
) -> Program {
    let default_heap = if options.nodes == 1 { 1024 } else { 768 };
    // A joining node asks its seed once in five seconds, and ends when twice this time has gone by without an
    // answer: on a busy machine one question is not enough. Alone it has nobody to ask.
    let ring_delay = if options.nodes == 1 { 100 } else { 20_000 };
    let program = opened(jvm::java(options.heap_mb.unwrap_or(default_heap)))
        .arg("-Djdk.attach.allowAttachSelf=true")
        // Cassandra installs a security manager, which Java refuses without this from 18 on.
        .arg("-Djava.security.manager=allow")
        .arg(format!(
            "-Dcassandra.config=file://{}",
            folder.join("cassandra.yaml").display()
        ))
        .arg(format!("-Dcassandra.storagedir={}", folder.display()))
        .arg(format!(
            "-Dlogback.configurationFile={}",
            folder.join("logback.xml").display()
        ))
        .arg("-Dcassandra-foreground=yes")
        .arg("-Dcassandra.superuser_setup_delay_ms=0")
        .arg("-Dcassandra.skip_wait_for_gossip_to_settle=0")
        .arg("-Dcassandra.consistent.rangemovement=false")
        .arg(format!("-Dcassandra.ring_delay_ms={ring_delay}"))
        .args(management.map(|port| format!("-Dcassandra.jmx.local.port={port}")));
    jvm::run(program, jars, "org.apache.cassandra.service.CassandraDaemon")
}

/// Lets Cassandra's classes at what Java 17 hides.
pub(super) fn opened(program: Program) -> Program {
    program
        .args(EXPORTS.map(|package| format!("--add-exports={package}=ALL-UNNAMED")))
        .args(OPENS.map(|package| format!("--add-opens={package}=ALL-UNNAMED")))
}
