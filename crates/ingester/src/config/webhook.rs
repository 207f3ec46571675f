//! Settings of the webhook for failed runs.

use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};
use service::Secret;
use service::config::Violations;

use crate::http::endpoint::Endpoint;

/// The webhook for failed runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookSettings {
    /// The URL that receives events. Its path may be a secret.
    pub url: Option<Secret>,
    /// The key of the signature.
    pub secret: Option<Secret>,
    /// The timeout of a request.
    #[serde(with = "service::duration")]
    pub request_timeout: Duration,
    /// The age of an event after which it is dropped.
    #[serde(with = "service::duration")]
    pub timeout: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            request_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(24 * 3_600),
        }
    }
}

impl WebhookSettings {
    pub(super) fn validate(&self, violations: &mut Violations) {
        if let Some(url) = &self.url
            && let Err(reason) = Endpoint::parse(url.expose())
        {
            violations.require(false, "webhook.url", reason);
        }
        violations.require(
            self.secret.is_none() || self.url.is_some(),
            "webhook.secret",
            "needs webhook.url",
        );
    }

    /// Returns the URL, which is valid.
    pub(crate) fn endpoint(&self) -> Option<Url> {
        let url = Endpoint::parse(self.url.as_ref()?.expose());
        Some(url.expect("`validate` has parsed the URL").url().clone())
    }
}
