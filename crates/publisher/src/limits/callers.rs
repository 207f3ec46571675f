//! The callers of the API, each with its rate limiter and its bytes in flight. `service` authenticates them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use service::Authenticator;
use service::http::auth::{AuthError, Identity};
use service::http::peer::PeerName;
use tokio::time::Instant;

use super::caller_share::CallerUsage;
use super::rate_limit::CallerRateLimiter;
use crate::config::RateLimitSettings;

/// The number of callers from which on those are forgotten that have not called recently. An issuer may know many.
const MANY: usize = 1024;

/// How long a caller counts as recent. Its rate limiter refills meanwhile.
const RECENT: Duration = Duration::from_secs(60);

/// The limits of an authenticated caller.
#[derive(Clone)]
pub struct Caller {
    /// The name in the token file, or the subject of the JWT; without tokens that of the client certificate, else
    /// `anonymous`.
    pub name: Arc<str>,
    /// The rate limiter that all tokens of that name share.
    pub rate_limiter: Arc<CallerRateLimiter>,
    /// The bytes in flight that all tokens of that name share.
    pub usage: Arc<CallerUsage>,
}

/// All callers that may write.
pub struct Callers {
    authenticator: Arc<Authenticator>,
    settings: RateLimitSettings,
    largest_body: usize,
    /// Kept across changes of the token file, so that a new token does not reset the rate limit.
    known: Mutex<HashMap<Arc<str>, KnownCaller>>,
}

struct KnownCaller {
    caller: Caller,
    last_call: Instant,
}

impl Callers {
    /// The callers that `authenticator` identifies. A body has at most `largest_body` bytes.
    pub fn new(
        authenticator: Arc<Authenticator>,
        rate_limit: &RateLimitSettings,
        largest_body: usize,
    ) -> Self {
        Self {
            authenticator,
            settings: rate_limit.clone(),
            largest_body,
            known: Mutex::default(),
        }
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
        let now = Instant::now();
        let mut known = self.known();
        if known.len() >= MANY && !known.contains_key(name) {
            // A caller with bytes in flight keeps its share.
            known.retain(|_, known| now - known.last_call < RECENT || known.caller.usage.bytes() > 0);
        }
        let new = || KnownCaller {
            caller: Caller {
                name: Arc::clone(name),
                rate_limiter: Arc::new(CallerRateLimiter::new(&self.settings, self.largest_body)),
                usage: Arc::default(),
            },
            last_call: now,
        };
        let known = known.entry(Arc::clone(name)).or_insert_with(new);
        known.last_call = now;
        known.caller.clone()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, KnownCaller>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use service::AuthSettings;

    use super::*;

    fn callers() -> Callers {
        let authenticator = Authenticator::load(&AuthSettings::default()).unwrap();
        Callers::new(Arc::new(authenticator), &RateLimitSettings::default(), 1_000)
    }

    fn rate_limiter(callers: &Callers, name: &str) -> *const CallerRateLimiter {
        Arc::as_ptr(&callers.caller(&name.into()).rate_limiter)
    }

    #[tokio::test]
    async fn each_name_has_one_rate_limiter() {
        let callers = callers();
        let a = rate_limiter(&callers, "a");
        assert_ne!(rate_limiter(&callers, "b"), a);
        assert_eq!(rate_limiter(&callers, "a"), a);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_callers_are_forgotten_when_there_are_many() {
        let callers = callers();
        for number in 0..MANY - 2 {
            callers.caller(&number.to_string().into());
        }
        let busy = callers.caller(&"busy".into());
        busy.usage.add(1);
        tokio::time::advance(RECENT).await;
        callers.caller(&"recent".into());
        assert_eq!(callers.known().len(), MANY);
        callers.caller(&"new".into());
        let mut names: Vec<_> = callers.known().keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["busy", "new", "recent"]);
    }
}
