//! Requests the keys of an issuer over HTTP, by OpenID Connect discovery or from a given URL.
//!
//! Keeps nothing and retries nothing.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use thiserror::Error;

use super::keys::KeySetError;
use super::settings::{JwtSettings, secure_url};

/// The timeout of a request.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest document, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;

/// The keys of an issuer can't be fetched.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// The request failed.
    #[error("failed to request {url}")]
    Request { url: Url, source: reqwest::Error },
    /// The status is not 200. Redirects are not followed.
    #[error("{url} returned {status}")]
    Status { url: Url, status: StatusCode },
    /// The document is too large.
    #[error("{0} returned more than {MAX_DOCUMENT} bytes")]
    TooLarge(Url),
    /// The document of the discovery does not parse.
    #[error("{url} returned no OpenID configuration")]
    Configuration { url: Url, source: serde_json::Error },
    /// The document of the discovery is that of another issuer.
    #[error("{0} is the configuration of another issuer")]
    OtherIssuer(Url),
    /// The keys would be read without TLS.
    #[error("{0} names no https URL of its keys")]
    Insecure(Url),
    /// The keys are not usable.
    #[error("failed to read the keys of the issuer")]
    Keys(#[from] KeySetError),
}

/// A client for the keys of one issuer.
pub(super) struct IssuerClient {
    client: Client,
    keys: KeysLocation,
}

enum KeysLocation {
    /// The configuration, and the issuer that it must name.
    Discovery {
        configuration: Url,
        issuer: String,
    },
    Url(Url),
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

impl IssuerClient {
    /// A client for the issuer of the settings; none if they name none.
    pub(super) fn new(settings: &JwtSettings) -> Option<Result<Self, reqwest::Error>> {
        let keys = match (&settings.jwks_url, &settings.issuer) {
            (Some(url), _) => KeysLocation::Url(secure_url(url)?),
            (None, Some(issuer)) => {
                let base = issuer.trim_end_matches('/');
                KeysLocation::Discovery {
                    configuration: secure_url(&format!("{base}/.well-known/openid-configuration"))?,
                    issuer: issuer.clone(),
                }
            }
            (None, None) => return None,
        };
        let client = Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(Policy::none())
            .build();
        Some(client.map(|client| Self { client, keys }))
    }

    /// The key set of the issuer.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        let (configuration, issuer) = match &self.keys {
            KeysLocation::Url(url) => return self.get(url).await,
            KeysLocation::Discovery {
                configuration,
                issuer,
            } => (configuration, issuer),
        };
        let text = self.get(configuration).await?;
        let found: Configuration =
            serde_json::from_slice(&text).map_err(|source| FetchError::Configuration {
                url: configuration.clone(),
                source,
            })?;
        if found.issuer != *issuer {
            return Err(FetchError::OtherIssuer(configuration.clone()));
        }
        let keys = secure_url(&found.jwks_uri).ok_or_else(|| FetchError::Insecure(configuration.clone()))?;
        self.get(&keys).await
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let failed = |source: reqwest::Error| FetchError::Request {
            url: url.clone(),
            source: source.without_url(),
        };
        let mut response = self.client.get(url.clone()).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            let (url, status) = (url.clone(), response.status());
            return Err(FetchError::Status { url, status });
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if text.len() + chunk.len() > MAX_DOCUMENT {
                return Err(FetchError::TooLarge(url.clone()));
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }
}
