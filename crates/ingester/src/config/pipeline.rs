//! Settings of the other services of the pipeline, as the ingester queries them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::Violations;

use crate::http::endpoint::Endpoint;

/// The other services of the pipeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineSettings {
    /// The base URL of the publisher's admin port.
    pub publisher_url: Option<Endpoint>,
    /// The base URL of the streamer's admin port. If set, each ended run is compared with the streamer's ledger.
    pub streamer_url: Option<Endpoint>,
    /// How long the streamer keeps the ledger of a run, or less.
    #[serde(with = "service::duration")]
    pub ledger_retention: Duration,
    /// How long the ledger may lack accepted records of a run without any progress, before the run is violated. Longer than
    /// the streamer may lag or be down. Less than the retention.
    #[serde(with = "service::duration")]
    pub missing_timeout: Duration,
    /// How long `once` and `backfill` wait for the verdict.
    #[serde(with = "service::duration")]
    pub verdict_timeout: Duration,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self {
            publisher_url: None,
            streamer_url: None,
            ledger_retention: 30 * DAY,
            missing_timeout: DAY,
            verdict_timeout: Duration::from_secs(60),
        }
    }
}

impl PipelineSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.missing_timeout < self.ledger_retention,
            "pipeline.missing_timeout",
            "must be less than pipeline.ledger_retention",
        );
    }
}
