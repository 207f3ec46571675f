//! The callers of the API, each with its rate limiter and its bytes in flight. `service` authenticates them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use service::AuthSettings;
use service::http::auth::{AuthError, Authenticator, Identity, TokenFileError};
use service::http::peer::PeerName;

use super::caller_share::CallerUsage;
use super::rate_limit::CallerRateLimiter;
use crate::config::RateLimitSettings;

/// The limits of an authenticated caller.
#[derive(Clone)]
pub struct Caller {
    /// The name in the token file; without one that of the client certificate, else `anonymous`.
    pub name: Arc<str>,
    /// The rate limiter that all tokens of that name share.
    pub rate_limiter: Arc<CallerRateLimiter>,
    /// The bytes in flight that all tokens of that name share.
    pub usage: Arc<CallerUsage>,
}

/// All callers that may write.
pub struct Callers {
    authenticator: Authenticator,
    settings: RateLimitSettings,
    largest_body: usize,
    /// Kept across changes of the token file, so that a new token does not reset the rate limit.
    known: Mutex<HashMap<Arc<str>, Caller>>,
}

impl Callers {
    /// Reads the token file, if one is configured; otherwise all callers may write. A body has at most `largest_body`
    /// bytes.
    ///
    /// # Errors
    /// Each [`TokenFileError`].
    pub fn load(
        auth: &AuthSettings,
        rate_limit: &RateLimitSettings,
        largest_body: usize,
    ) -> Result<Self, TokenFileError> {
        Ok(Self {
            authenticator: Authenticator::load(auth)?,
            settings: rate_limit.clone(),
            largest_body,
            known: Mutex::default(),
        })
    }

    /// Reads the file again and returns whether it has changed. After an error the previous tokens stay valid.
    ///
    /// # Errors
    /// Each [`TokenFileError`].
    pub fn reload(&self) -> Result<bool, TokenFileError> {
        let changed = self.authenticator.reload()?;
        if changed {
            let names = self.authenticator.names();
            self.known().retain(|name, _| names.contains(name));
        }
        Ok(changed)
    }

    /// Identifies the caller of a request with these headers, on a connection with this client certificate.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerName>,
    ) -> Result<Identity, AuthError> {
        match peer {
            Some(peer) if !self.authenticator.requires_token() => {
                Ok(Identity::unrestricted(Arc::clone(peer.name())))
            }
            _ => self.authenticator.authenticate(headers).await,
        }
    }

    /// The limits of the caller with this name.
    pub fn caller(&self, name: &Arc<str>) -> Caller {
        let new = || Caller {
            name: Arc::clone(name),
            rate_limiter: Arc::new(CallerRateLimiter::new(&self.settings, self.largest_body)),
            usage: Arc::default(),
        };
        self.known().entry(Arc::clone(name)).or_insert_with(new).clone()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, Caller>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::http::HeaderValue;
    use sha2::{Digest as _, Sha256};
    use tempfile::NamedTempFile;

    use super::*;

    fn line(name: &str, token: &str) -> String {
        let hex: String = Sha256::digest(token)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{name} {hex}\n")
    }

    async fn rate_limiter(callers: &Callers, token: &'static str) -> *const CallerRateLimiter {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(token));
        let identity = callers.authenticate(&headers, None).await.unwrap();
        Arc::as_ptr(&callers.caller(&identity.name).rate_limiter)
    }

    #[tokio::test]
    async fn rate_limiter_of_a_caller_survives_a_new_token() {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all((line("a", "old") + &line("b", "x")).as_bytes())
            .unwrap();
        let auth = AuthSettings {
            tokens_path: Some(file.path().to_owned()),
        };
        let callers = Callers::load(&auth, &RateLimitSettings::default(), 1_000).unwrap();
        let (a, b) = (
            rate_limiter(&callers, "Bearer old").await,
            rate_limiter(&callers, "Bearer x").await,
        );
        assert_ne!(a, b);
        std::fs::write(file.path(), line("a", "new")).unwrap();
        assert!(callers.reload().unwrap());
        assert_eq!(rate_limiter(&callers, "Bearer new").await, a);
        assert_eq!(
            callers.known().len(),
            1,
            "the limiter of a removed caller is dropped"
        );
    }
}
