//! Processes that may have no more of something than they hold, by the limits of the operating system.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Effect, Scene};
use crate::RoundError;
use crate::crew::is_running;
use crate::evidence::{Sign, Who};
use crate::fault::Resource;
use crate::laws::MEMORY_BOUNDS;
use testkit::proxy::{Proxy, local_addresses, remote_addresses};

/// The limit bounds the number of a new descriptor, and not how many there are. Every process has these three.
const NO_DESCRIPTORS: u64 = 3;
/// For a process to try what it can't do any more.
const TRIES: Duration = Duration::from_secs(1);
/// What is shorter may pass between two looks of a service at its servers.
const SHOWS: Duration = Duration::from_secs(6);

impl Scene<'_> {
    /// Only the soft limit is lowered, which needs no right, and so can be raised again.
    pub(super) async fn starve(
        &self,
        who: Who,
        resource: Resource,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let mut service = self.crew.get(who).await;
        let began = self.now();
        self.crew.stand_up(who, &mut service).await?;
        let Some(pid) = service.child().map(|child| child.pid()) else {
            return Ok(self.effect(began));
        };
        let (name, limit) = match resource {
            Resource::Descriptors => ("nofile", NO_DESCRIPTORS),
            Resource::Memory => ("data", data_at_bound(who, pid)),
        };
        let limited = async {
            let before = soft_limit(pid, name).await?;
            set_soft_limit(pid, name, &limit.to_string()).await?;
            if resource == Resource::Descriptors {
                self.cut_off(who, pid).await;
            }
            sleep(lasts).await;
            set_soft_limit(pid, name, &before).await
        };
        match limited.await {
            Err(_) if !is_running(&service) => self.crew.stand_up(who, &mut service).await?,
            outcome => outcome?,
        }
        Ok(Effect {
            excuses: vec![who],
            signs: match resource {
                Resource::Descriptors if lasts >= SHOWS => signs(who),
                // A limit that is not reached is nothing that a process could tell.
                Resource::Descriptors | Resource::Memory => Vec::new(),
            },
            ..self.effect(began)
        })
    }

    /// Resets its connections; whoever can open none has none then.
    async fn cut_off(&self, who: Who, pid: u32) {
        let proxies = || {
            let servers = self.venue.kafka.iter().chain(&self.venue.cassandra);
            servers.chain([&self.crew.door, &self.crew.way])
        };
        let own = local_addresses(pid).unwrap_or_default();
        for connection in proxies().flat_map(Proxy::connections) {
            if own.contains(&connection.client()) {
                connection.reset();
            }
        }
        sleep(TRIES).await;
        let there: Vec<_> = proxies().map(Proxy::address).collect();
        let kept = remote_addresses(pid).unwrap_or_default();
        if let Some(remote) = kept.iter().find(|remote| there.contains(remote)) {
            let told = format!("{who} without file descriptors is connected to {remote}");
            self.crew.is_without_effect(told);
        }
    }
}

/// It is silent, or what it needs is missing to it, or it tries again: its own metrics can be read only on connections
/// that are there.
fn signs(who: Who) -> Vec<Sign> {
    let mut signs = vec![Sign::Silent(who)];
    signs.extend(match who {
        Who::Ingester => vec![
            Sign::Missed("publisher"),
            Sign::Rose("ingester_retries_total{upstream=\"publisher\"}"),
        ],
        Who::Publisher => vec![Sign::Missed("kafka"), Sign::Fell("publisher_kafka_up")],
        Who::Streamer(_) => vec![
            Sign::Missed("kafka"),
            Sign::Missed("cassandra"),
            Sign::Rose("streamer_retries_total"),
        ],
    });
    signs
}

/// So many bytes of private memory that what is resident may grow up to the service's bound.
fn data_at_bound(who: Who, pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let name = who.to_string();
    let bound = MEMORY_BOUNDS
        .iter()
        .find(|(service, _)| name.starts_with(service));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some hundred MiB"
    )]
    let bound = bound.map_or(0, |(_, bytes)| *bytes as u64);
    (kilobytes("VmData").saturating_sub(kilobytes("RssAnon")) << 10) + bound
}

async fn soft_limit(pid: u32, name: &str) -> Result<String, RoundError> {
    let resource = format!("--{name}");
    let asked = [&resource, "--output", "SOFT", "--noheadings", "--raw"].map(ToOwned::to_owned);
    prlimit(pid, asked.into()).await
}

async fn set_soft_limit(pid: u32, name: &str, limit: &str) -> Result<(), RoundError> {
    prlimit(pid, vec![format!("--{name}={limit}:")]).await.map(drop)
}

/// Of util-linux, where `setpriv` is from, too.
async fn prlimit(pid: u32, arguments: Vec<String>) -> Result<String, RoundError> {
    let refused = |log: String| RoundError::Refused { what: "prlimit", log };
    let run = spawn_blocking(move || {
        let mut command = Command::new("prlimit");
        command
            .args(["--pid", &pid.to_string()])
            .args(arguments)
            .stdin(Stdio::null());
        command.output()
    });
    let output = run.await.map_err(|error| refused(error.to_string()))?;
    let output = output.map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
