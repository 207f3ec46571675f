//! Progress for people: a bar per leg of the way, fed by the services' own metrics.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::figures::Summary;
use crate::service::{Service, ServiceError};

/// Fetched, accepted, stored.
pub(super) struct Legs {
    bars: MultiProgress,
    fetched: ProgressBar,
    accepted: ProgressBar,
    stored: ProgressBar,
}

const REFRESH: Duration = Duration::from_millis(100);

impl Legs {
    pub(super) fn new(users: u64) -> Self {
        let bars = MultiProgress::new();
        if !io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix:>9} [{bar:40}] {pos}/{len} ({per_sec})")
            .expect("the template is a literal")
            .progress_chars("=> ");
        let bar = |name| {
            let bar = bars.add(ProgressBar::new(users).with_style(style.clone()));
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

    /// Shows progress until the ingester's admin port is gone; then it waits for its end to be noticed.
    pub(super) async fn follow(&self, ingester: &Service, streamer: &Service) -> ServiceError {
        loop {
            let (fetched, accepted) = (
                ingester.metric("ingester_users_fetched_total", "").await,
                ingester.metric("ingester_users_accepted_total", "").await,
            );
            if let (Ok(Some(fetched)), Ok(Some(accepted))) = (fetched, accepted) {
                self.fetched.set_position(whole(fetched));
                self.accepted.set_position(whole(accepted));
            }
            match stored(streamer).await {
                Ok(stored) => self.stored.set_position(stored),
                Err(error) => return error,
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Waits until every accepted record is a row or a dead letter and no partition lags; false after `deadline`.
    pub(super) async fn drain(&self, summary: &Summary, streamer: &Service, deadline: Duration) -> bool {
        self.fetched.set_position(summary.fetched);
        self.accepted.set_position(summary.accepted);
        let until = Instant::now() + deadline;
        while Instant::now() < until {
            let rows = stored(streamer).await.unwrap_or(0);
            self.stored.set_position(rows);
            let letters = streamer
                .metric("streamer_dead_letters_total", "")
                .await
                .ok()
                .flatten()
                .unwrap_or(0.0);
            if rows + whole(letters) >= summary.accepted && checkpointed(streamer).await >= summary.accepted {
                return true;
            }
            tokio::time::sleep(REFRESH).await;
        }
        false
    }

    pub(super) fn finish(&self) {
        let plain = self.bars.is_hidden();
        for bar in [&self.fetched, &self.accepted, &self.stored] {
            bar.abandon();
            if plain {
                eprintln!(
                    "{:>9} {}/{}",
                    bar.prefix(),
                    bar.position(),
                    bar.length().unwrap_or(0)
                );
            }
        }
    }
}

async fn stored(streamer: &Service) -> Result<u64, ServiceError> {
    Ok(whole(
        streamer.metric("streamer_rows_total", "").await?.unwrap_or(0.0),
    ))
}

async fn checkpointed(streamer: &Service) -> u64 {
    whole(
        streamer
            .metric("streamer_checkpoint_offset", "")
            .await
            .ok()
            .flatten()
            .unwrap_or(0.0),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter is a whole number, not negative"
)]
fn whole(count: f64) -> u64 {
    count as u64
}
