//! Settings of the admin ports of the other services, which `GET /v1/pipeline` reads.

use serde::{Deserialize, Serialize};

use crate::http::endpoint::Endpoint;

/// Admin ports of the other services.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineSettings {
    /// The publisher's admin port, such as `http://publisher:9082`.
    pub publisher_url: Option<Endpoint>,
    /// The streamer's admin port, such as `http://streamer:9083`.
    pub streamer_url: Option<Endpoint>,
}
