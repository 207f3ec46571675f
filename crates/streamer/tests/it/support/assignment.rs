//! Waits for partition assignments.

use testkit::service::Service;

use crate::support::test_env::eventually;

/// Waits until the members hold all partitions, each the same number or one more.
pub(crate) async fn wait_for_even_assignment(members: &[&Service], partitions: usize) {
    eventually("the partitions are assigned evenly", async || {
        let mut assigned = Vec::new();
        for member in members {
            let found = member.metric("streamer_assigned_partitions", "").await;
            assigned.push(found.map_err(|error| error.to_string())?.unwrap_or(0.0));
        }
        let evenly = assigned
            .iter()
            .all(|some| assigned.iter().all(|other| (some - other).abs() < 1.5));
        if evenly && (assigned.iter().sum::<f64>() - partitions as f64).abs() < f64::EPSILON {
            Ok(())
        } else {
            Err(format!("{assigned:?}"))
        }
    })
    .await;
}

/// Waits until the member holds `partitions` partitions.
pub(crate) async fn wait_for_partitions(member: &Service, partitions: f64) {
    eventually("the member holds its partitions", async || {
        holds_partitions(member, partitions).await
    })
    .await;
}

/// Checks that the member holds `partitions` partitions.
///
/// # Errors
/// The number of partitions that it holds.
pub(crate) async fn holds_partitions(member: &Service, partitions: f64) -> Result<(), String> {
    let assigned = member
        .metric("streamer_assigned_partitions", "")
        .await
        .map_err(|error| error.to_string())?;
    if assigned == Some(partitions) {
        Ok(())
    } else {
        Err(format!("{assigned:?} of {partitions}"))
    }
}
