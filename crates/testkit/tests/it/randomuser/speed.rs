//! The API is fast enough not to limit the ingester's benches.

use std::time::Instant;

use testkit::randomuser::Options;

use super::client::{start_with, text};

#[tokio::test]
async fn records_have_about_1047_bytes() {
    let api = start_with(Options::unlimited()).await;
    let bytes = text(&api, "/api/1.4/?results=5000&seed=x").await.len() / 5_000;
    assert!((1_000..1_120).contains(&bytes), "{bytes} bytes a record");
}

#[tokio::test]
async fn pages_are_faster_than_benches_need() {
    let api = start_with(Options::unlimited()).await;
    let best = {
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let started = Instant::now();
            text(&api, "/api/1.4/?results=5000").await;
            best = best.min(started.elapsed().as_secs_f64());
        }
        best
    };
    let rate = 5_000.0 / best;
    eprintln!("{rate:.0} users/s");
    // A tenth of an idle core's rate, so that the test passes on a busy machine.
    assert!(rate > 15_000.0, "{rate:.0} users/s");
}
