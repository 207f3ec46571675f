//! The settings of JWTs.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::config::{List, Violations};

/// How callers are authenticated by JWTs; not at all unless one of `issuer`, `jwks_path` and `jwks_url` is set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct JwtSettings {
    /// The URL of the issuer, which the claim `iss` must equal. Its keys are found by OpenID Connect discovery, unless
    /// `jwks_path` or `jwks_url` is set.
    pub issuer: Option<String>,
    /// A file with the issuer's keys, a JSON Web Key Set.
    pub jwks_path: Option<PathBuf>,
    /// The URL of the issuer's keys, a JSON Web Key Set.
    pub jwks_url: Option<String>,
    /// The claim `aud` must name one of these.
    pub audience: List,
    /// The claim with the roles of the caller: a list, or a text with spaces; a path such as `realm_access.roles` if it
    /// is nested.
    pub roles_claim: String,
    /// How often the keys are fetched from the issuer.
    #[serde(with = "crate::duration")]
    pub refresh_interval: Duration,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            jwks_path: None,
            jwks_url: None,
            audience: List::default(),
            roles_claim: "roles".to_owned(),
            refresh_interval: Duration::from_secs(300),
        }
    }
}

impl JwtSettings {
    /// Whether callers may authenticate by JWTs.
    pub(in crate::http::auth) fn is_enabled(&self) -> bool {
        self.issuer.is_some() || self.jwks_path.is_some() || self.jwks_url.is_some()
    }

    pub(in crate::http::auth) fn validate(&self, violations: &mut Violations) {
        violations.require(
            self.is_enabled() != self.audience.is_empty(),
            "auth.jwt.audience",
            "must be set together with auth.jwt.issuer, auth.jwt.jwks_path or auth.jwt.jwks_url",
        );
        violations.require(
            self.jwks_path.is_none() || self.jwks_url.is_none(),
            "auth.jwt.jwks_url",
            "must not be set together with auth.jwt.jwks_path",
        );
        for (key, url) in [
            ("auth.jwt.issuer", &self.issuer),
            ("auth.jwt.jwks_url", &self.jwks_url),
        ] {
            let is_secure = url.as_deref().is_none_or(|url| secure_url(url).is_some());
            violations.require(
                is_secure,
                key,
                "must be an https URL, or an http URL of this host",
            );
        }
    }
}

/// The URL, if others can't change what is read from it: of https, or of this host.
pub(super) fn secure_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    (is_secure && url.host_str().is_some()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_https_or_local() {
        for secure in [
            "https://issuer.example/realms/a",
            "http://127.0.0.1:1/",
            "http://localhost/x",
        ] {
            assert!(secure_url(secure).is_some(), "{secure}");
        }
        for insecure in [
            "http://issuer.example/",
            "http://127.0.0.1.example/",
            "ftp://localhost/",
            "file:///etc/keys",
            "issuer.example",
            "",
        ] {
            assert!(secure_url(insecure).is_none(), "{insecure}");
        }
    }
}
