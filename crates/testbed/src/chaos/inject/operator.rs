//! What an operator does: stops the streamers, works on what they keep, and starts them again.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep};

use super::Scene;
use crate::chaos::RoundError;
use crate::chaos::crew::streamer;
use crate::chaos::evidence::Who;
use crate::service::Service;
use crate::table::Table;

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
        let until = Instant::now() + DEADLINE;
        loop {
            let command = streamer(self.venue, self.plot, 0)
                .arg("replay")
                .arg("--from-offset")
                .arg("0")
                .arg("--yes");
            let command = Service::start(&command)?;
            if command.wait(DEADLINE).await? == Some(0) {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(RoundError::Refused {
                    what: "streamer replay",
                    log: command.last_lines(5),
                });
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Past the proxy.
    pub(super) async fn table(&self) -> Result<Table, RoundError> {
        let points = self.venue.stack.cassandra.contact_points();
        Ok(Table::connect(&points, &self.plot.name).await?)
    }
}
