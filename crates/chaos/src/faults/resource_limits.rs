//! Exhausts file descriptors or memory of a process through its soft limits.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::proxy::{Proxy, local_addresses, remote_addresses};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::injector::{FaultEffect, FaultInjector};
use crate::evidence::incident::ExpectedSignal;
use crate::scenario::fault::Resource;
use crate::service_id::ServiceId;
use crate::services::is_running;

/// The limit bounds the number of a new descriptor. Every process has descriptors 0 to 2.
const DESCRIPTOR_LIMIT: u64 = 3;
/// For a process to notice that it cannot reconnect.
const RECONNECT_ATTEMPTS: Duration = Duration::from_secs(1);
/// A shorter fault may fall between two health checks of a service.
const NOTICEABLE: Duration = Duration::from_secs(6);

impl FaultInjector<'_> {
    /// Lowers only the soft limit, which an unprivileged user can raise again.
    pub(super) async fn exhaust(
        &self,
        id: ServiceId,
        resource: Resource,
        duration: Duration,
    ) -> Result<FaultEffect> {
        let mut service = self.services.get(id).await;
        let started = self.now();
        self.services.ensure_running(id, &mut service).await?;
        let Some(pid) = service.child().map(|child| child.pid()) else {
            return Ok(self.effect(started));
        };
        let (name, limit) = match resource {
            Resource::FileDescriptors => ("nofile", DESCRIPTOR_LIMIT),
            Resource::Memory => ("data", data_limit(id, pid)),
        };
        let limited = async {
            let before = soft_limit(pid, name).await?;
            set_soft_limit(pid, name, &limit.to_string()).await?;
            if resource == Resource::FileDescriptors {
                self.reset_connections(id, pid).await;
            }
            sleep(duration).await;
            set_soft_limit(pid, name, &before).await
        };
        match limited.await {
            Err(_) if !is_running(&service) => self.services.ensure_running(id, &mut service).await?,
            outcome => outcome?,
        }
        Ok(FaultEffect {
            excused: vec![id],
            signals: match resource {
                Resource::FileDescriptors if duration >= NOTICEABLE => signals(id),
                // A process need not notice a limit that it does not reach.
                Resource::FileDescriptors | Resource::Memory => Vec::new(),
            },
            ..self.effect(started)
        })
    }

    /// Resets the connections of a process that cannot open new ones, and checks that none is left.
    async fn reset_connections(&self, id: ServiceId, pid: u32) {
        let proxies = || {
            let own = [&self.services.publisher_proxy, &self.services.api_proxy];
            self.cluster.proxies().chain(own)
        };
        let clients = local_addresses(pid).unwrap_or_default();
        for connection in proxies().flat_map(Proxy::connections) {
            if clients.contains(&connection.client()) {
                connection.reset();
            }
        }
        sleep(RECONNECT_ATTEMPTS).await;
        let addresses: Vec<_> = proxies().map(Proxy::address).collect();
        let remotes = remote_addresses(pid).unwrap_or_default();
        if let Some(remote) = remotes.iter().find(|remote| addresses.contains(remote)) {
            let text = format!("{id} without file descriptors is connected to {remote}");
            self.services.ineffective_fault(text);
        }
    }
}

/// The process does not respond, misses a dependency, or retries. Its metrics can be read only on open connections.
fn signals(id: ServiceId) -> Vec<ExpectedSignal> {
    use ExpectedSignal::{Fell, Missing, Rose, Unresponsive};
    let mut signals = vec![Unresponsive(id)];
    signals.extend(match id {
        ServiceId::Ingester => vec![
            Missing("publisher"),
            Rose("ingester_retries_total{upstream=\"publisher\"}"),
        ],
        ServiceId::Publisher => vec![Missing("kafka"), Fell("publisher_kafka_up")],
        ServiceId::Streamer(_) => vec![
            Missing("kafka"),
            Missing("cassandra"),
            Rose("streamer_retries_total"),
        ],
    });
    signals
}

/// The limit of private memory, in bytes, at which resident memory can grow up to the service's bound.
fn data_limit(id: ServiceId, pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few hundred MiB"
    )]
    let bound = id.memory_limit() as u64;
    (kibibytes("VmData").saturating_sub(kibibytes("RssAnon")) << 10) + bound
}

async fn soft_limit(pid: u32, name: &str) -> Result<String> {
    let resource = format!("--{name}");
    let arguments = [&resource, "--output", "SOFT", "--noheadings", "--raw"];
    prlimit(pid, arguments.map(ToOwned::to_owned).into()).await
}

async fn set_soft_limit(pid: u32, name: &str, limit: &str) -> Result<()> {
    prlimit(pid, vec![format!("--{name}={limit}:")]).await.map(drop)
}

/// Runs `prlimit` of util-linux.
async fn prlimit(pid: u32, arguments: Vec<String>) -> Result<String> {
    let failed = "failed to run prlimit";
    let run = spawn_blocking(move || {
        let mut command = Command::new("prlimit");
        command
            .args(["--pid", &pid.to_string()])
            .args(arguments)
            .stdin(Stdio::null());
        command.output()
    });
    let output = run.await.context(failed)?.context(failed)?;
    ensure!(
        output.status.success(),
        "{failed}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
