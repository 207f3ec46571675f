//! Settings of the API of `ingester run`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::List;

/// The API of `ingester run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiSettings {
    /// The listen address.
    pub listen: SocketAddr,
    /// Whether an address that is reachable from other machines may be served without authentication.
    pub allow_anonymous: bool,
    /// Host names by which callers without authentication may address the API, in addition to addresses and `localhost`.
    pub host_names: List,
    /// How often the token file is checked for changes.
    #[serde(with = "service::duration")]
    pub reload_interval: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            allow_anonymous: false,
            host_names: List::default(),
            reload_interval: Duration::from_secs(5),
        }
    }
}
