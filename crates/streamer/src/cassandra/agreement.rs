//! Waits until the nodes of a cluster agree on its tables: one that has just been created is not known to all at once, and
//! each question may be answered by another node.

use std::collections::BTreeSet;
use std::time::Duration;

use cdrs_tokio::types::ByName as _;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cassandra::fault::Fault;
use crate::cassandra::session::Live;

/// A node that is down keeps the version that it went with, so nobody waits for it for ever.
const DEADLINE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// Answers in a row, each perhaps of another node, that have to agree.
const ANSWERS: usize = 3;

/// Returns once all nodes agree, or after three seconds.
///
/// # Errors
/// The [`Fault`] of a question.
pub async fn wait_for_agreement(live: &Live) -> Result<(), Fault> {
    let until = Instant::now() + DEADLINE;
    let mut agreeing = 0;
    loop {
        let (nodes, versions) = versions(live).await?;
        agreeing = if versions == 1 { agreeing + 1 } else { 0 };
        if agreeing >= nodes.min(ANSWERS) {
            return Ok(());
        }
        if Instant::now() >= until {
            tracing::warn!(nodes, versions, "the nodes do not agree on the schema");
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// How many nodes there are, and how many versions of the schema among them.
async fn versions(live: &Live) -> Result<(usize, usize), Fault> {
    let mut rows = live
        .query("SELECT schema_version FROM system.local", Vec::new())
        .await?;
    rows.extend(
        live.query("SELECT schema_version FROM system.peers_v2", Vec::new())
            .await?,
    );
    let versions: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row.by_name::<Uuid>("schema_version").ok().flatten())
        .collect();
    Ok((rows.len(), versions.len()))
}
