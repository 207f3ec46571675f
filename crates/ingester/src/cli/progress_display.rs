//! Shows the progress of the active run on standard error: a bar on a terminal, log lines otherwise.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use crate::run::active_run::ActiveRun;
use crate::run::run_stats::RunCounts;

const REFRESH_INTERVAL: Duration = Duration::from_millis(200);

/// Shows the progress of the active run.
pub struct ProgressDisplay {
    active_run: ActiveRun,
    bar: Option<ProgressBar>,
    log_interval: Duration,
}

impl ProgressDisplay {
    /// Shows a bar, or logs a line every `log_interval` when standard error is not a terminal.
    #[must_use]
    pub fn new(active_run: ActiveRun, log_interval: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(bar);
        Self {
            active_run,
            bar,
            log_interval,
        }
    }

    /// Shows progress until it is dropped.
    pub async fn show(self) -> Infallible {
        loop {
            sleep(if self.bar.is_some() {
                REFRESH_INTERVAL
            } else {
                self.log_interval
            })
            .await;
            let counts = self.active_run.run().and_then(|run| self.active_run.counts(run));
            let Some(counts) = counts else { continue };
            match &self.bar {
                Some(bar) => draw(bar, &counts),
                None => tracing::info!(
                    requested = counts.requested,
                    fetched = counts.fetched,
                    accepted = counts.accepted,
                    rate_limited_seconds = counts.rate_limited_seconds,
                    "progress"
                ),
            }
        }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} users delivered, {msg}");
    let bar = ProgressBar::new(0);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn draw(bar: &ProgressBar, counts: &RunCounts) {
    bar.set_length(counts.requested);
    bar.set_position(counts.fetched - counts.undelivered.min(counts.fetched));
    let waited = counts.rate_limited_seconds;
    bar.set_message(format!("{} fetched, {waited:.0} s rate limited", counts.fetched));
}
