//! How long services take to start.

use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::service::Service;

const STARTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Restarts a running service several times. Returns the milliseconds from each start of the process until `/readyz`
/// succeeds. The service runs afterwards.
pub async fn startup_times(service: &mut Service) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        service.terminate(TIMEOUT).await?;
        let started = Instant::now();
        service.spawn()?;
        service.wait_until_ready(TIMEOUT).await?;
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(times)
}
