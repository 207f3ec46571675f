//! The way into a run: the plan's pages from the API into the outbox, a few asked for at once. Delivers nothing; how a
//! page is had, whatever it takes, is `source`'s.

use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fetch::page_slots::PageSlots;
use crate::fetch::retrying_fetcher::{PageError, RetryingFetcher};
use crate::fetch::user_api::UserApi;
use crate::run::plan::Plan;
use crate::run::report::RunError;
use crate::run::run_progress::RunProgress;
use crate::run::run_stats::RunStats;

/// How fetching ended.
pub enum FetchOutcome {
    /// Every page of the plan came in.
    Complete,
    /// It was told to stop.
    Cancelled,
    /// A page can't be had.
    Failed(PageError),
}

/// One run's way in.
pub struct FetchLoop<'r, F> {
    /// The API.
    pub fetcher: &'r RetryingFetcher<F>,
    /// What the run has done so far.
    pub progress: &'r RunProgress,
    /// A page is asked for when there is a place for it.
    pub slots: &'r PageSlots,
    /// How many pages are asked for at once, 1 or more.
    pub in_flight: usize,
}

impl<F: UserApi> FetchLoop<'_, F> {
    /// Fetches every page of the plan that isn't yet, and rings the bell for each, until `cancel` is cancelled. The
    /// bell's end says that there will be no more.
    ///
    /// # Errors
    /// When the state can't be written.
    pub async fn run(
        &self,
        plan: &Plan,
        cancel: &CancellationToken,
        wakeup: mpsc::Sender<()>,
    ) -> Result<FetchOutcome, RunError> {
        let fetched = usize::try_from(self.progress.pages_fetched()).unwrap_or(usize::MAX);
        let (fetcher, slots): (_, &PageSlots) = (self.fetcher, self.slots);
        let stats: &RunStats = self.progress.stats();
        let pages = stream::iter(plan.pages().skip(fetched)).map(|request| async move {
            slots.acquire().await;
            fetcher.page(&request, stats).await
        });
        // In the order of the plan, so that one number says how far a run has come.
        let mut pages = std::pin::pin!(pages.buffered(self.in_flight));
        loop {
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(FetchOutcome::Cancelled),
                next = pages.next() => next,
            };
            match next {
                None => return Ok(FetchOutcome::Complete),
                Some(Err(error)) => return Ok(FetchOutcome::Failed(error)),
                Some(Ok(page)) => {
                    if !self.progress.record_page(&page).map_err(RunError::Store)? {
                        slots.release();
                    }
                    // Full is as good: somebody rang and was not heard yet.
                    let _ = wakeup.try_send(());
                }
            }
        }
    }
}
