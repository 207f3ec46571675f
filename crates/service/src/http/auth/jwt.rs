//! Authenticates callers by JSON Web Tokens of one issuer: signature, lifetime, issuer, audience and roles.
//!
//! The keys come from a file or from the issuer. A request waits for the issuer only if no known key fits its token.

mod claims;
mod issuer;
mod keys;
mod token;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{AuthError, AuthFileError, Identity};
use crate::config::{List, Violations};
use crate::exit::chain;
use crate::health::Health;
use crate::reload::log_new_error;
use claims::ExpectedClaims;
use issuer::{FETCH_TIMEOUT, FetchError, IssuerClient, secure_url};
use keys::Keys;
use token::Token;

pub use keys::KeySetError;

/// The least time between two requests of the issuer's keys, however many tokens name a key that is not known.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(10);

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
    pub(super) fn is_enabled(&self) -> bool {
        self.issuer.is_some() || self.jwks_path.is_some() || self.jwks_url.is_some()
    }

    pub(super) fn validate(&self, violations: &mut Violations) {
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

    pub(super) fn check_files(&self, violations: &mut Violations) {
        if let Some(path) = &self.jwks_path {
            violations.check("auth.jwt.jwks_path", read(path));
        }
    }
}

/// Why a JWT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwtError {
    /// It does not parse.
    #[error("the token is malformed")]
    Malformed,
    /// Its algorithm is not supported, or not that of its key.
    #[error("the token must be signed with RS256, ES256 or EdDSA, as its key requires")]
    Algorithm,
    /// It is signed with a key that the issuer does not have.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the token is invalid")]
    Signature,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It is of another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is for others.
    #[error("the token is for another audience")]
    Audience,
    /// A claim is missing or malformed.
    #[error("the token must have valid claims sub and exp")]
    Claims,
}

/// The file of keys is not usable.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// Reading it failed.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// It is no key set.
    #[error("failed to parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeySetError,
    },
}

/// Verifies JWTs.
pub(super) struct JwtVerifier {
    expected: ExpectedClaims,
    /// None until the issuer has responded once.
    keys: RwLock<Option<Arc<Keys>>>,
    source: KeySource,
}

enum KeySource {
    File(PathBuf),
    Issuer(IssuerKeys),
}

struct IssuerKeys {
    client: IssuerClient,
    refresh_interval: Duration,
    min_fetch_interval: Duration,
    /// A request needs keys that are not known.
    wanted: Notify,
    /// The last request of the keys; none before the first.
    last_fetch: watch::Sender<Option<KeyFetch>>,
}

#[derive(Clone, Copy)]
struct KeyFetch {
    at: Instant,
    succeeded: bool,
}

impl JwtVerifier {
    /// A verifier with the keys of a file, or with those that [`refresh`](Self::refresh) fetches. None if the settings
    /// name no keys.
    pub(super) fn load(settings: &JwtSettings) -> Result<Option<Self>, AuthFileError> {
        let (keys, source) = if let Some(path) = &settings.jwks_path {
            (Some(Arc::new(read(path)?)), KeySource::File(path.clone()))
        } else if let Some(client) = IssuerClient::new(settings) {
            let issuer = IssuerKeys {
                client: client.map_err(AuthFileError::Client)?,
                refresh_interval: settings.refresh_interval,
                min_fetch_interval: MIN_FETCH_INTERVAL,
                wanted: Notify::new(),
                last_fetch: watch::Sender::new(None),
            };
            (None, KeySource::Issuer(issuer))
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            expected: ExpectedClaims::new(settings),
            keys: RwLock::new(keys),
            source,
        }))
    }

    /// Whether the text may be a JWT.
    pub(super) fn is_jwt(text: &[u8]) -> bool {
        Token::is_like(text)
    }

    /// Reads the file of keys again and returns whether it has changed.
    pub(super) fn reload(&self) -> Result<bool, KeyFileError> {
        let KeySource::File(path) = &self.source else {
            return Ok(false);
        };
        let text = read_text(path)?;
        self.replace(text).map_err(|source| KeyFileError::Parse {
            path: path.clone(),
            source,
        })
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`]; [`AuthError::KeysUnavailable`] if its key is not known and the issuer does not respond.
    pub(super) async fn verify(&self, text: &[u8]) -> Result<Identity, AuthError> {
        let now = Timestamp::now().as_second();
        let sha256: [u8; 32] = Sha256::digest(text).into();
        let known = self.keys();
        if let Some(verified) = known.as_ref().and_then(|keys| keys.verified(&sha256, now)) {
            return Ok(verified.identity);
        }
        let token = Token::parse(text)?;
        let keys = match known {
            Some(keys) if keys.may_verify(&token) => keys,
            other => self.newer_keys(other).await?,
        };
        keys.verify(&token)?;
        let verified = self.expected.check(&token.claims, now)?;
        keys.remember(sha256, verified.clone(), now);
        Ok(verified.identity)
    }

    /// Waits for keys that are newer than `known`.
    async fn newer_keys(&self, known: Option<Arc<Keys>>) -> Result<Arc<Keys>, AuthError> {
        let KeySource::Issuer(issuer) = &self.source else {
            return known.ok_or(AuthError::KeysUnavailable);
        };
        let mut fetched = issuer.last_fetch.subscribe();
        let last = *fetched.borrow_and_update();
        let current = self.keys();
        if current.as_ref().map(Arc::as_ptr) != known.as_ref().map(Arc::as_ptr) {
            return current.ok_or(AuthError::KeysUnavailable);
        }
        match last.filter(|last| last.at.elapsed() < issuer.min_fetch_interval) {
            Some(KeyFetch { succeeded: true, .. }) => return current.ok_or(AuthError::KeysUnavailable),
            Some(_) => return Err(AuthError::KeysUnavailable),
            None => issuer.wanted.notify_one(),
        }
        // Discovery is two requests.
        let changed = timeout(2 * FETCH_TIMEOUT, fetched.changed()).await;
        let succeeded = changed.is_ok() && fetched.borrow().is_some_and(|fetch| fetch.succeeded);
        if !succeeded {
            return Err(AuthError::KeysUnavailable);
        }
        self.keys().ok_or(AuthError::KeysUnavailable)
    }

    /// Keeps the keys of an issuer fresh until `stop`. Failed requests are repeated; the keys that are known stay in use.
    /// If `required`, the process is not ready before there are keys.
    pub(super) async fn refresh(&self, health: &Health, required: bool, stop: CancellationToken) {
        let KeySource::Issuer(issuer) = &self.source else {
            return;
        };
        let dependency = required.then(|| health.dependency("issuer"));
        let refreshing = async {
            let mut last_error = None;
            loop {
                let error = self.fetch(issuer).await.err().map(|error| chain(&error));
                log_new_error("keys of the issuer", error.as_deref(), last_error.as_deref());
                if let Some(dependency) = &dependency {
                    match &error {
                        Some(error) if self.keys().is_none() => dependency.unready(error.as_str()),
                        _ => dependency.ready(),
                    }
                }
                let succeeded = error.is_none();
                let at = Instant::now();
                issuer.last_fetch.send_replace(Some(KeyFetch { at, succeeded }));
                last_error = error;
                sleep(issuer.min_fetch_interval).await;
                if succeeded {
                    let rest = issuer.refresh_interval.saturating_sub(issuer.min_fetch_interval);
                    // A timeout is the regular case.
                    let _ = timeout(rest, issuer.wanted.notified()).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = refreshing => {}
        }
    }

    async fn fetch(&self, issuer: &IssuerKeys) -> Result<(), FetchError> {
        let text = issuer.client.fetch().await?;
        if self.replace(text)? {
            tracing::info!("fetched new keys of the issuer");
        }
        Ok(())
    }

    /// Replaces the keys unless they are the same, and returns whether it did.
    fn replace(&self, text: Vec<u8>) -> Result<bool, KeySetError> {
        if self.keys().is_some_and(|keys| keys.is_of(&text)) {
            return Ok(false);
        }
        let keys = Arc::new(Keys::parse(text)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        Ok(true)
    }

    fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(path: &Path) -> Result<Keys, KeyFileError> {
    Keys::parse(read_text(path)?).map_err(|source| KeyFileError::Parse {
        path: path.to_owned(),
        source,
    })
}

fn read_text(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    std::fs::read(path).map_err(|source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
