//! Processes that may have no more of something than they hold, by the limits of the operating system.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::{Effect, Scene};
use crate::chaos::RoundError;
use crate::chaos::evidence::{Sign, Who};
use crate::chaos::fault::Resource;
use crate::chaos::laws::MEMORY_BOUNDS;
use crate::proxy::Proxy;

impl Scene<'_> {
    /// Only the soft limit is lowered, which needs no right, and so can be raised again.
    pub(super) async fn starve(
        &self,
        who: Who,
        resource: Resource,
        lasts: Duration,
    ) -> Result<Effect, RoundError> {
        let service = self.crew.get(who).await;
        let began = self.now();
        let Some(pid) = service.child().map(|child| child.pid()) else {
            return Ok(self.effect(began));
        };
        let (name, limit) = match resource {
            Resource::Descriptors => ("nofile", open_files(pid)),
            Resource::Memory => ("data", data_at_bound(who, pid)),
        };
        let before = block_in_place(|| soft_limit(pid, name))?;
        block_in_place(|| set_soft_limit(pid, name, &limit.to_string()))?;
        if resource == Resource::Descriptors {
            // Whoever is connected has to open something.
            let proxies = self.venue.kafka.iter().chain(&self.venue.cassandra);
            proxies.chain([&self.crew.door]).for_each(Proxy::reset);
        }
        sleep(lasts).await;
        if service.child().is_some_and(crate::process::Child::is_running) {
            block_in_place(|| set_soft_limit(pid, name, &before))?;
        }
        Ok(Effect {
            excuses: vec![who],
            signs: match resource {
                Resource::Descriptors => vec![Sign::Fell("process_max_fds")],
                // A limit that is not reached is nothing that a process could tell.
                Resource::Memory => Vec::new(),
            },
            ..self.effect(began)
        })
    }
}

fn open_files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64)
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

fn soft_limit(pid: u32, name: &str) -> Result<String, RoundError> {
    prlimit(
        pid,
        &[&format!("--{name}"), "--output", "SOFT", "--noheadings", "--raw"],
    )
}

fn set_soft_limit(pid: u32, name: &str, limit: &str) -> Result<(), RoundError> {
    prlimit(pid, &[&format!("--{name}={limit}:")]).map(drop)
}

/// Of util-linux, where `setpriv` is from, too.
fn prlimit(pid: u32, arguments: &[&str]) -> Result<String, RoundError> {
    let mut command = Command::new("prlimit");
    command
        .args(["--pid", &pid.to_string()])
        .args(arguments)
        .stdin(Stdio::null());
    let refused = |log: String| RoundError::Refused { what: "prlimit", log };
    let output = command.output().map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
