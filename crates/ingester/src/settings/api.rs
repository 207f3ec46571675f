//! The API of `ingester run`. The rules between these values stand in `settings`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The API of `ingester run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiSettings {
    /// Its address.
    pub listen: SocketAddr,
    /// Whether it may listen where others can reach it without asking them who they are.
    pub allow_anonymous: bool,
    /// How often the file of tokens is looked at for changes.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reload_interval: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            allow_anonymous: false,
            reload_interval: Duration::from_secs(5),
        }
    }
}
