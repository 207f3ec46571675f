//! The way into a run: the plan's pages from the API into the outbox, a few asked for at once. Delivers nothing; how a
//! page is had, whatever it takes, is `source`'s.

use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fetch::Fetch;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::report::RunError;
use crate::room::Room;
use crate::source::{Source, SourceError};
use crate::tally::Tally;

/// How fetching ended.
pub enum Fetched {
    /// Every page of the plan came in.
    Everything,
    /// It was told to stop.
    Stopped,
    /// A page can't be had.
    Failed(SourceError),
}

/// One run's way in.
pub struct Fetching<'r, F> {
    /// The API.
    pub source: &'r Source<F>,
    /// What the run has done so far.
    pub ledger: &'r Ledger,
    /// A page is asked for when there is a place for it.
    pub room: &'r Room,
    /// How many pages are asked for at once, 1 or more.
    pub in_flight: usize,
}

impl<F: Fetch> Fetching<'_, F> {
    /// Fetches every page of the plan that isn't yet, and rings the bell for each, until `cancel` is cancelled. The
    /// bell's end says that there will be no more.
    ///
    /// # Errors
    /// When the state can't be written.
    pub async fn all(
        &self,
        plan: &Plan,
        cancel: &CancellationToken,
        bell: mpsc::Sender<()>,
    ) -> Result<Fetched, RunError> {
        let fetched = usize::try_from(self.ledger.pages_fetched()).unwrap_or(usize::MAX);
        let (source, room): (_, &Room) = (self.source, self.room);
        let tally: &Tally = self.ledger.tally();
        let pages = stream::iter(plan.pages().skip(fetched)).map(|request| async move {
            room.take().await;
            source.page(&request, tally).await
        });
        // In the order of the plan, so that one number says how far a run has come.
        let mut pages = std::pin::pin!(pages.buffered(self.in_flight));
        loop {
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(Fetched::Stopped),
                next = pages.next() => next,
            };
            match next {
                None => return Ok(Fetched::Everything),
                Some(Err(error)) => return Ok(Fetched::Failed(error)),
                Some(Ok(page)) => {
                    if !self.ledger.fetched(&page).map_err(RunError::Memory)? {
                        room.give();
                    }
                    // Full is as good: somebody rang and was not heard yet.
                    let _ = bell.try_send(());
                }
            }
        }
    }
}
