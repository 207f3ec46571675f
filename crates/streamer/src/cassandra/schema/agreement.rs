//! Waits until the nodes agree on the schema.
//!
//! A new table is not known to all nodes at once, and each session is with another node.

use std::collections::BTreeSet;
use std::time::Duration;

use cdrs_tokio::types::ByName as _;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::session::Session;

/// A node that is down keeps its old schema version, so the wait is limited.
const TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Consecutive responses that must agree, because gossip may still bring another version.
const MIN_RESPONSES: usize = 3;

/// Returns true once all nodes agree, or false after three seconds.
///
/// # Errors
/// The [`ErrorClass`] of a query.
pub async fn wait_for_agreement(session: &Session) -> Result<bool, ErrorClass> {
    let until = Instant::now() + TIMEOUT;
    let mut agreeing = 0;
    loop {
        let (nodes, versions) = versions(session).await?;
        agreeing = if versions == 1 { agreeing + 1 } else { 0 };
        if agreeing >= nodes.min(MIN_RESPONSES) {
            return Ok(true);
        }
        if Instant::now() >= until {
            tracing::warn!(nodes, versions, "nodes disagree on the schema");
            return Ok(false);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Returns the number of nodes and the number of their schema versions.
async fn versions(session: &Session) -> Result<(usize, usize), ErrorClass> {
    let mut rows = session
        .query_node("SELECT schema_version FROM system.local", Vec::new())
        .await?;
    rows.extend(
        session
            .query_node("SELECT schema_version FROM system.peers_v2", Vec::new())
            .await?,
    );
    let versions: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row.by_name::<Uuid>("schema_version").ok().flatten())
        .collect();
    Ok((rows.len(), versions.len()))
}
