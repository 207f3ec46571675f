//! An operator's steps: stop the streamers, run a command, start them again.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures::future::try_join_all;
use testkit::cassandra_client::CassandraClient;
use testkit::service::Service;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep};

use super::injector::{FaultEffect, FaultInjector, STEP_TIMEOUT};
use crate::scenario::fault::Release;
use crate::service_id::{OPERATOR_STREAMER, ServiceId};
use crate::services::streamer;

/// A locked streamer.
pub(super) type Locked<'a> = (ServiceId, MutexGuard<'a, Service>);

impl FaultInjector<'_> {
    /// Terminates every streamer.
    pub(super) async fn stop_streamers(&self) -> Result<Vec<Locked<'_>>> {
        let mut locked = Vec::new();
        for id in ServiceId::streamers() {
            locked.push((id, self.services.get(id).await));
        }
        let stops = locked
            .iter_mut()
            .map(|(id, service)| self.services.terminate(*id, service));
        try_join_all(stops).await?;
        Ok(locked)
    }

    pub(super) async fn start_streamers(&self, mut locked: Vec<Locked<'_>>) -> Result<()> {
        let starts = locked
            .iter_mut()
            .map(|(id, service)| self.services.restart(*id, service));
        try_join_all(starts).await?;
        Ok(())
    }

    pub(super) async fn with_streamers_stopped(&self, work: impl Future<Output = Result<()>>) -> Result<()> {
        let locked = self.stop_streamers().await?;
        work.await?;
        self.start_streamers(locked).await
    }

    /// `streamer replay`, which fails until the group is empty.
    pub(super) async fn replay(&self) -> Result<()> {
        let arguments = ["replay", "--from-offset", "0", "--yes"];
        self.run_command("run streamer replay", &arguments).await?;
        Ok(())
    }

    /// Redrives the dead letters and checks that some were written.
    pub(super) async fn redrive_dead_letters(&self) -> Result<FaultEffect> {
        let started = self.now();
        if self.redrive().await? == 0 {
            let text = "no dead letter could be redriven".to_owned();
            self.services.ineffective_fault(text);
        }
        Ok(self.effect(started))
    }

    /// `streamer redrive`, which applies deletions, while the other streamers run. Returns the number of written letters.
    pub(crate) async fn redrive(&self) -> Result<usize> {
        const OPERATION: &str = "run streamer redrive";
        let log = self.run_command(OPERATION, &["redrive"]).await?;
        written(&log).ok_or_else(|| anyhow!("failed to {OPERATION}: {log}"))
    }

    /// Repeats a command of the streamer until it succeeds; returns its last lines.
    async fn run_command(&self, operation: &'static str, arguments: &[&str]) -> Result<String> {
        let until = Instant::now() + STEP_TIMEOUT;
        loop {
            let command = streamer(self.cluster, self.config, OPERATOR_STREAMER, Release::Present);
            let command = arguments
                .iter()
                .fold(command, |command, argument| command.arg(*argument));
            let command = Service::start(&command)?;
            let (code, log) = (command.wait(STEP_TIMEOUT).await?, command.last_lines(5));
            if code == Some(0) {
                return Ok(log);
            }
            if Instant::now() >= until {
                bail!("failed to {operation}: {log}");
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    pub(super) async fn cassandra(&self) -> Result<CassandraClient> {
        Ok(self.config.cassandra_client(self.cluster).await?)
    }
}

/// The number of written letters in the command's summary.
fn written(log: &str) -> Option<usize> {
    let (_, counted) = log.rsplit_once("written: ")?;
    counted
        .split(|it: char| !it.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redrive_summary_contains_the_written_letters() {
        let log = "0:2              written\nwritten: 12, still rejected: 3, too old: 0, superseded: 1";
        assert_eq!(written(log), Some(12));
        assert_eq!(written("connect to kafka: refused"), None);
    }
}
