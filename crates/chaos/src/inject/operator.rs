//! What an operator does: stops the streamers, works on what they keep, and starts them again.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep};

use super::{Effect, Scene};
use crate::RoundError;
use crate::crew::streamer;
use crate::evidence::{OPERATORS, Who};
use testkit::cassandra_client::CassandraClient;
use testkit::service::Service;

/// For a command to end, and for the group to have no members any more.
const DEADLINE: Duration = Duration::from_secs(30);

/// A streamer that nobody else may disturb.
pub(super) type Held<'a> = (Who, MutexGuard<'a, Service>);

impl Scene<'_> {
    /// Stops every streamer in good order.
    pub(super) async fn stop_streamers(&self) -> Result<Vec<Held<'_>>, RoundError> {
        let mut held = Vec::new();
        for who in self.crew.streamers() {
            held.push((who, self.crew.get(who).await));
        }
        let stops = held
            .iter_mut()
            .map(|(who, service)| self.crew.terminate(*who, service));
        try_join_all(stops).await?;
        Ok(held)
    }

    /// Starts them again.
    pub(super) async fn start_streamers(&self, mut held: Vec<Held<'_>>) -> Result<(), RoundError> {
        let starts = held
            .iter_mut()
            .map(|(who, service)| self.crew.revive(*who, service));
        try_join_all(starts).await?;
        Ok(())
    }

    /// Does it while no streamer runs.
    pub(super) async fn while_nobody_reads(
        &self,
        work: impl Future<Output = Result<(), RoundError>>,
    ) -> Result<(), RoundError> {
        let held = self.stop_streamers().await?;
        work.await?;
        self.start_streamers(held).await
    }

    /// `streamer replay`, once the group has no members any more.
    pub(super) async fn replay(&self) -> Result<(), RoundError> {
        let arguments = ["replay", "--from-offset", "0", "--yes"];
        self.command("streamer replay", &arguments).await?;
        Ok(())
    }

    /// The operator sees what became of the letters, and that some were written.
    pub(super) async fn dead_letters_redriven(&self) -> Result<Effect, RoundError> {
        let began = self.now();
        if self.redrive().await? == 0 {
            self.crew
                .is_without_effect("no dead letter could be redriven".to_owned());
        }
        Ok(self.effect(began))
    }

    /// `streamer redrive`, which takes deletions for what they are; returns how many letters were written. Beside streamers
    /// that run, and until the servers are there.
    pub(crate) async fn redrive(&self) -> Result<usize, RoundError> {
        const WHAT: &str = "streamer redrive";
        let log = self.command(WHAT, &["redrive"]).await?;
        written(&log).ok_or(RoundError::Refused { what: WHAT, log })
    }

    /// A command of the streamer, again and again until it ends well; returns its last lines.
    async fn command(&self, what: &'static str, arguments: &[&str]) -> Result<String, RoundError> {
        let until = Instant::now() + DEADLINE;
        loop {
            let command = streamer(self.venue, self.plot, OPERATORS);
            let command = arguments
                .iter()
                .fold(command, |command, argument| command.arg(*argument));
            let command = Service::start(&command)?;
            let (ended, log) = (command.wait(DEADLINE).await?, command.last_lines(5));
            if ended == Some(0) {
                return Ok(log);
            }
            if Instant::now() >= until {
                return Err(RoundError::Refused { what, log });
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Past the proxy.
    pub(super) async fn table(&self) -> Result<CassandraClient, RoundError> {
        let points = self.venue.stack.cassandra.contact_points();
        Ok(CassandraClient::connect(&points, &self.plot.name).await?)
    }
}

/// How many letters the command says that it wrote.
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
    fn what_was_written_is_read_off_the_commands_last_line() {
        let log = "0:2              written\nwritten: 12, still refused: 3, too old: 0, overtaken: 1";
        assert_eq!(written(log), Some(12));
        assert_eq!(written("connect to kafka: refused"), None);
    }
}
