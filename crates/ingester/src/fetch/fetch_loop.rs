//! Fetch stage of a run: moves the planned pages from the API to the outbox, several at once. Retries are in
//! `retrying_fetcher`.

use std::time::SystemTime;

use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fetch::page_slots::PageSlots;
use crate::fetch::retrying_fetcher::{PageError, RetryingFetcher};
use crate::fetch::user_api::UserApi;
use crate::run::plan::PagePlan;
use crate::run::report::RunError;
use crate::run::run_progress::RunProgress;
use crate::run::run_stats::RunStats;
use crate::run::run_trace::RunTrace;

/// How the fetch stage ended.
pub enum FetchOutcome {
    /// Every planned page was fetched.
    Complete,
    /// The run was cancelled.
    Cancelled,
    /// A page can't be fetched.
    Failed(PageError),
}

/// Fetch stage of one run.
pub struct FetchLoop<'r, F> {
    /// Fetches single pages.
    pub fetcher: &'r RetryingFetcher<F>,
    /// Progress of the run.
    pub progress: &'r RunProgress,
    /// Limits pages in flight or queued.
    pub slots: &'r PageSlots,
    /// Maximum number of pages requested at once, 1 or more.
    pub max_in_flight: usize,
}

impl<F: UserApi> FetchLoop<'_, F> {
    /// Fetches the remaining pages of the plan until `cancel` is cancelled. Sends on `wakeup` after each stored page; the
    /// dropped sender ends the delivery stage.
    ///
    /// # Errors
    /// Returns [`RunError::Store`] when the store can't be written.
    pub async fn run(
        &self,
        plan: &PagePlan,
        cancel: &CancellationToken,
        wakeup: mpsc::Sender<()>,
    ) -> Result<FetchOutcome, RunError> {
        let fetched = usize::try_from(self.progress.pages_fetched()).unwrap_or(usize::MAX);
        let (fetcher, slots): (_, &PageSlots) = (self.fetcher, self.slots);
        let (stats, trace): (&RunStats, &RunTrace) = (self.progress.stats(), self.progress.trace());
        let pages = stream::iter(plan.pages().skip(fetched)).map(|request| async move {
            slots.acquire().await;
            let started = SystemTime::now();
            let page = fetcher.page(&request, stats).await;
            trace.record_page(request.page, started, page.is_ok());
            page
        });
        // In plan order, so that one number describes how far the run has fetched.
        let mut pages = std::pin::pin!(pages.buffered(self.max_in_flight));
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
                    // A full channel already holds a wakeup.
                    let _ = wakeup.try_send(());
                }
            }
        }
    }
}
