//! Progress of the demo: its steps with elapsed seconds, and bars from the services' metrics.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::service::{Service, ServiceError};

/// Prints steps with the seconds since the start.
pub(super) struct Steps(Instant);

impl Steps {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn print(&self, step: &str) {
        eprintln!("{:6.1} s  {step}", self.0.elapsed().as_secs_f64());
    }
}

/// A bar each for fetched, accepted and stored records.
pub(super) struct ProgressBars {
    bars: MultiProgress,
    fetched: ProgressBar,
    accepted: ProgressBar,
    stored: ProgressBar,
}

const REFRESH: Duration = Duration::from_millis(100);

impl ProgressBars {
    pub(super) fn new(records: u64) -> Self {
        let bars = MultiProgress::new();
        if !io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix:>9} [{bar:40}] {pos}/{len} ({per_sec})")
            .expect("the template is a literal")
            .progress_chars("=> ");
        let bar = |name| {
            let bar = bars.add(ProgressBar::new(records).with_style(style.clone()));
            bar.set_prefix(name);
            bar
        };
        let (fetched, accepted, stored) = (bar("fetched"), bar("accepted"), bar("stored"));
        Self {
            bars,
            fetched,
            accepted,
            stored,
        }
    }

    /// Counts posted records.
    pub(super) fn add_posted(&self, records: u64) {
        self.fetched.inc(records);
        self.accepted.inc(records);
    }

    /// Updates the bars until the streamer's admin port fails. Ignores the ingester's, which ends with its run.
    pub(super) async fn follow(&self, ingester: Option<&Service>, streamer: &Service) -> ServiceError {
        loop {
            for (bar, metric) in [
                (&self.fetched, "ingester_users_fetched_total"),
                (&self.accepted, "ingester_users_accepted_total"),
            ] {
                let Some(ingester) = ingester else { break };
                if let Ok(Some(count)) = ingester.metric(metric, "").await {
                    bar.set_position(whole(count));
                }
            }
            match counter(streamer, "streamer_rows_total").await {
                Ok(stored) => self.stored.set_position(stored),
                Err(error) => return error,
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Waits until every accepted record is a row or a dead letter and no partition lags. Returns false after `timeout`.
    pub(super) async fn drain(
        &self,
        fetched: u64,
        accepted: u64,
        streamer: &Service,
        timeout: Duration,
    ) -> bool {
        self.fetched.set_position(fetched);
        self.accepted.set_position(accepted);
        let count = async |name| counter(streamer, name).await.unwrap_or(0);
        let until = Instant::now() + timeout;
        while Instant::now() < until {
            let rows = count("streamer_rows_total").await;
            self.stored.set_position(rows);
            if rows + count("streamer_dead_letters_total").await >= accepted
                && count("streamer_checkpoint_offset").await >= accepted
            {
                return true;
            }
            tokio::time::sleep(REFRESH).await;
        }
        false
    }

    pub(super) fn finish(&self) {
        for bar in [&self.fetched, &self.accepted, &self.stored] {
            bar.abandon();
            if self.bars.is_hidden() {
                let (position, length) = (bar.position(), bar.length().unwrap_or(0));
                eprintln!("{:>9} {position}/{length}", bar.prefix());
            }
        }
    }
}

/// Returns the sum of a counter's series.
pub(super) async fn counter(service: &Service, name: &str) -> Result<u64, ServiceError> {
    Ok(whole(service.metric(name, "").await?.unwrap_or(0.0)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter is a whole number, not negative"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
