//! `ingester run`: waits for the next start, runs, and asks `schedule` for the one after. Runs never overlap, because
//! there is one loop.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::fetch::Fetch;
use crate::post::Post;
use crate::report::{Outcome, Report};
use crate::run::Pipeline;
use crate::schedule::{Schedule, Start};

/// How long it sleeps before it looks at the clock again, which may have been set, or have slept itself.
const NAP: Duration = Duration::from_secs(10);

/// Runs on schedule until `stop` is cancelled, or until a run ends in a way that no other run can mend.
///
/// # Errors
/// That run's report.
pub async fn run<F: Fetch, P: Post>(
    schedule: &Schedule,
    mut pipeline: Pipeline<F, P>,
    stop: &CancellationToken,
) -> Result<(), Report> {
    let mut start = schedule.first(Timestamp::now());
    loop {
        pipeline
            .metrics()
            .next_start
            .set(start.at.as_duration().as_secs_f64());
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = wait(&pipeline, &start) => {}
        }
        let report = pipeline.run(stop).await;
        if report.is_hopeless() {
            return Err(report);
        }
        let failed = matches!(report.outcome, Outcome::Failed(_));
        start = schedule.next(&start, failed, Timestamp::now());
        if !stop.is_cancelled() {
            tracing::info!(at = %start.at, retry = start.retry, "next start");
        }
    }
}

async fn wait<F: Fetch, P: Post>(pipeline: &Pipeline<F, P>, start: &Start) {
    loop {
        let left = Duration::try_from(start.at.duration_since(Timestamp::now())).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        pipeline.pulse().expect_within(NAP);
        sleep(left.min(NAP)).await;
    }
}
