//! The command line of a Cassandra node, as its own start script makes it.

use std::path::Path;

use super::CassandraOptions;
use crate::process::Program;
use crate::servers::{jvm, version};

/// Packages that Java 17 hides and Cassandra's start script exports too.
const EXPORTS: &str = "java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch \
    java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
    java.sql/java.sql java.base/java.lang.ref jdk.unsupported/sun.misc";

/// As [`EXPORTS`], for reflection.
const OPENS: &str = "java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref \
    java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
    java.base/jdk.internal.util.jar jdk.management/com.sun.management.internal java.base/sun.nio.ch \
    java.base/java.io java.base/java.nio java.base/java.util java.base/java.util.concurrent \
    java.base/java.util.concurrent.atomic java.base/java.lang java.base/java.math java.base/java.net";

/// Cassandra with the configuration in `folder` and this port for `nodetool`.
pub(super) fn program(
    options: &CassandraOptions,
    folder: &Path,
    jars: &Path,
    management: Option<u16>,
) -> Program {
    // A joining node queries its seed once in five seconds and ends after twice this time without a response. On a busy
    // machine one request is not enough. A single node has no seed.
    let is_single = options.all_nodes() == 1;
    let ring_delay = if is_single { 100 } else { 20_000 };
    // While a node is down, the others and the one that starts repeat the setup of roles after this time. Without a pause
    // that keeps a core of each node busy.
    let setup_delay = if is_single { 0 } else { 1_000 };
    // Cassandra installs a security manager, which Java refuses without this from 18 on. Java 11 takes it for a class.
    let security_manager =
        (!version::is_below(version::CASSANDRA, 5, 0)).then_some("-Djava.security.manager=allow");
    let file = |name: &str| folder.join(name).display().to_string();
    let program = with_access(jvm::with_heap(version::cassandra_java(), options.heap_mb()))
        .arg("-Djdk.attach.allowAttachSelf=true")
        .args(security_manager)
        .arg(format!("-Dcassandra.config=file://{}", file("cassandra.yaml")))
        .arg(format!("-Dcassandra.storagedir={}", folder.display()))
        .arg(format!(
            "-Dcassandra-rackdc.properties=file://{}",
            file("cassandra-rackdc.properties")
        ))
        .arg(format!("-Dlogback.configurationFile={}", file("logback.xml")))
        .arg("-Dcassandra-foreground=yes")
        .arg(format!("-Dcassandra.superuser_setup_delay_ms={setup_delay}"))
        .arg("-Dcassandra.skip_wait_for_gossip_to_settle=0")
        // How many rows a node measures at its start to estimate the memory of one. 100,000, the default, take 3 s.
        .arg("-Dcassandra.memtable_row_overhead_computation_step=1000")
        // How often a node reads the clock for its timeouts. Each 2 ms, the default, is more than half of what an idle
        // node does.
        .arg("-Dcassandra.approximate_time_precision_ms=20")
        .arg(format!(
            "-Dcassandra.test.flush_local_schema_changes={}",
            options.keeps_schema
        ))
        // A node that joins takes each range from the replica that it replaces, so that no quorum loses a row. Nodes of a new
        // cluster have no ranges to take.
        .arg(format!(
            "-Dcassandra.consistent.rangemovement={}",
            options.spares > 0
        ))
        .arg(format!("-Dcassandra.ring_delay_ms={ring_delay}"))
        .args(management.map(|port| format!("-Dcassandra.jmx.local.port={port}")));
    jvm::run(program, jars, "org.apache.cassandra.service.CassandraDaemon")
}

/// Gives Cassandra's classes access to the packages that Java 17 hides.
pub(super) fn with_access(program: Program) -> Program {
    let flags = |flag: &'static str, packages: &'static str| {
        packages
            .split_whitespace()
            .map(move |package| format!("--{flag}={package}=ALL-UNNAMED"))
    };
    program
        .args(flags("add-exports", EXPORTS))
        .args(flags("add-opens", OPENS))
}
