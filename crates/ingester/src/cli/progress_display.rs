//! How far a run has come, for somebody who waits for it: a bar on a terminal, a line now and then otherwise. Both go to
//! standard error, as the log does.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use crate::run::active_run::ActiveRun;
use crate::run::run_stats::Counts;

const BAR: Duration = Duration::from_millis(200);

/// Shows the run under way.
pub struct ProgressDisplay {
    current: ActiveRun,
    bar: Option<ProgressBar>,
    line_after: Duration,
}

impl ProgressDisplay {
    /// A bar, or, where standard error is no terminal, a line each time after `line_after`.
    #[must_use]
    pub fn of(current: ActiveRun, line_after: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(bar);
        Self {
            current,
            bar,
            line_after,
        }
    }

    /// Shows until it is dropped.
    pub async fn show(self) -> Infallible {
        loop {
            sleep(if self.bar.is_some() { BAR } else { self.line_after }).await;
            let counts = self.current.run().and_then(|run| self.current.counts(run));
            let Some(counts) = counts else { continue };
            match &self.bar {
                Some(bar) => draw(bar, &counts),
                None => tracing::info!(
                    requested = counts.requested,
                    fetched = counts.fetched,
                    accepted = counts.accepted,
                    throttled_seconds = counts.throttled_seconds,
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

fn draw(bar: &ProgressBar, counts: &Counts) {
    bar.set_length(counts.requested);
    bar.set_position(counts.fetched - counts.undelivered.min(counts.fetched));
    let throttled = counts.throttled_seconds;
    bar.set_message(format!("{} fetched, {throttled:.0} s waited", counts.fetched));
}
