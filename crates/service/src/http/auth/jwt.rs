//! Authenticates callers by JSON Web Tokens of one issuer: signature, lifetime, issuer, audience and roles.
//!
//! The keys come from a file or from the issuer. A request waits for the issuer only if no known key fits its token.

mod claims;
mod error;
mod issuer;
mod keys;
mod settings;
mod token;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::error::AuthError;
use super::file_error::AuthFileError;
use super::identity::Identity;
use crate::config::Violations;
use crate::files::reload::log_new_error;
use crate::health::Health;
use crate::process::exit::chain;
use claims::ExpectedClaims;
use issuer::{FETCH_TIMEOUT, FetchError, IssuerClient};
use keys::{JwkSet, read, read_text};
use token::Token;

pub use error::JwtError;
pub use keys::{KeyFileError, KeySetError};
pub use settings::JwtSettings;

/// The least time between two requests of the issuer's keys, however many tokens name a key that is not known.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(10);

impl JwtSettings {
    pub(super) fn check_files(&self, violations: &mut Violations) {
        if let Some(path) = &self.jwks_path {
            violations.check("auth.jwt.jwks_path", read(path));
        }
    }
}

/// Verifies JWTs.
pub(super) struct JwtVerifier {
    expected: ExpectedClaims,
    /// None until the issuer has responded once.
    keys: RwLock<Option<Arc<JwkSet>>>,
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
    async fn newer_keys(&self, known: Option<Arc<JwkSet>>) -> Result<Arc<JwkSet>, AuthError> {
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
        let keys = Arc::new(JwkSet::parse(text)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        Ok(true)
    }

    fn keys(&self) -> Option<Arc<JwkSet>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
