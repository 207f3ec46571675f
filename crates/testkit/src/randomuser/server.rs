//! The routes: the API, and `/_faults` and `/_requests` for scripts.

mod body;
mod error_response;
mod peer;
mod rate_limit;
mod request_log;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, Path, Query as Parameters, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rand::{Rng, rngs::Xoshiro256PlusPlus};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub(super) use self::peer::Peer;
pub(super) use self::rate_limit::RateLimiter;
pub use self::rate_limit::{RateLimit, RateLimitReply};
pub(super) use self::request_log::RequestLog;
pub use self::request_log::{ServedOutcome, ServedRequest};
use super::fault::{Fault, FaultQueue};
use super::page::{PageCache, People, Request};
use super::query::Query;
use super::version::Version;

/// The state that all requests share.
#[derive(Debug)]
pub(super) struct ApiShared {
    pub(super) people: People,
    pub(super) faults: Mutex<FaultQueue>,
    pub(super) rate_limiter: Mutex<RateLimiter>,
    pub(super) log: Mutex<RequestLog>,
    pub(super) cache: Mutex<PageCache>,
    pub(super) seeds: Mutex<Xoshiro256PlusPlus>,
    /// Random bits of a generated seed.
    pub(super) seed_bits: u32,
    pub(super) stop: CancellationToken,
}

/// Routes over this state.
pub(super) fn router(shared: Arc<ApiShared>) -> Router {
    Router::new()
        .route("/api", get(latest))
        .route("/api/", get(latest))
        .route("/api/{version}", get(versioned))
        .route("/api/{version}/", get(versioned))
        .route("/_faults", post(inject).delete(clear_faults))
        .route("/_requests", get(requests))
        .with_state(shared)
}

async fn latest(
    State(shared): State<Arc<ApiShared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Response {
    shared.respond(Version::LATEST, &parameters, peer, &uri).await
}

async fn versioned(
    State(shared): State<Arc<ApiShared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    Path(segment): Path<String>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Response {
    let Some(version) = Version::of_segment(&segment) else {
        shared.log(&uri, ServedOutcome::NotOffered);
        return error_response::error(StatusCode::NOT_FOUND, "this version is not supported");
    };
    shared.respond(version, &parameters, peer, &uri).await
}

impl ApiShared {
    async fn respond(
        self: Arc<Self>,
        version: Version,
        parameters: &HashMap<String, String>,
        peer: Peer,
        uri: &Uri,
    ) -> Response {
        if parameters
            .get("format")
            .is_some_and(|format| matches!(format.as_str(), "csv" | "xml" | "yaml"))
        {
            self.log(uri, ServedOutcome::NotOffered);
            return error_response::error(StatusCode::NOT_IMPLEMENTED, "only JSON is supported");
        }
        let query = Query::parse(parameters, self.people.nationalities.of(version));
        let fault = lock(&self.faults).pop();
        if let Some((fault, refused)) = fault
            .as_ref()
            .and_then(|fault| Some((fault, error_response::of_fault(fault)?)))
        {
            self.log(uri, ServedOutcome::Faulted(fault.clone()));
            return refused;
        }
        if let Err(refused) =
            lock(&self.rate_limiter).acquire(peer.address.ip(), query.results, Instant::now())
        {
            self.log(uri, ServedOutcome::RateLimited);
            return error_response::rate_limited(refused);
        }
        let served = ServedOutcome::Served {
            users: self.people.available(&query),
        };
        self.log(uri, fault.clone().map_or(served, ServedOutcome::Faulted));
        self.send_page(version, query, fault, peer).await
    }

    async fn send_page(
        self: Arc<Self>,
        version: Version,
        query: Query,
        fault: Option<Fault>,
        peer: Peer,
    ) -> Response {
        if let Some(Fault::Hang(delay)) = &fault {
            let delayed = tokio::time::sleep(delay.unwrap_or(Duration::MAX));
            if self.stop.run_until_cancelled(delayed).await.is_none() {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
        }
        let seed = query.seed.clone().unwrap_or_else(|| self.draw_seed());
        let request = Request::new(version, query, seed);
        let stop = self.stop.clone();
        // A page of 5,000 keeps a core busy for too long to block other requests.
        let rendered = tokio::task::spawn_blocking(move || (self.page(&request, fault.as_ref()), fault));
        match rendered.await {
            Ok((page, fault)) => body::respond(page, fault.as_ref(), peer, &stop),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "failed to generate a page"
                );
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    /// Renders a page, or gets it from the cache unless it has a fault.
    fn page(&self, request: &Request, fault: Option<&Fault>) -> Bytes {
        if fault.is_some() || !lock(&self.cache).is_enabled() {
            return self.people.render(request, fault).into();
        }
        let key = request.key();
        if let Some(page) = lock(&self.cache).get(&key) {
            return page;
        }
        let page = Bytes::from(self.people.render(request, None));
        lock(&self.cache).insert(key, page.clone());
        page
    }

    /// Returns 16 hexadecimal digits from `seed_bits` random bits.
    fn draw_seed(&self) -> String {
        let drawn = u64::from(lock(&self.seeds).next_u32()) & ((1 << self.seed_bits) - 1);
        format!("{:016x}", (drawn + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn log(&self, uri: &Uri, outcome: ServedOutcome) {
        let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
        lock(&self.log).push(Instant::now(), ServedRequest { path, query, outcome });
    }
}

/// Locks state that is consistent after every statement, so a poisoned lock is usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Injection {
    fault: Fault,
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

async fn inject(State(shared): State<Arc<ApiShared>>, Json(injection): Json<Injection>) -> StatusCode {
    let has_space = lock(&shared.faults).push(injection.fault, injection.times);
    if has_space {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CONFLICT
    }
}

async fn clear_faults(State(shared): State<Arc<ApiShared>>) -> StatusCode {
    lock(&shared.faults).clear();
    StatusCode::NO_CONTENT
}

async fn requests(State(shared): State<Arc<ApiShared>>) -> Json<Vec<ServedRequest>> {
    Json(lock(&shared.log).requests())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomuser::{Options, share};

    /// The page with so many users of one seed.
    fn page(shared: &ApiShared, results: &str) -> Bytes {
        let parameters = HashMap::from([("results".to_owned(), results.to_owned())]);
        let query = Query::parse(&parameters, shared.people.nationalities.of(Version::LATEST));
        shared.page(&Request::new(Version::LATEST, query, "seed".to_owned()), None)
    }

    #[test]
    fn cached_page_equals_the_generated_one() {
        let generated = share(&Options::unlimited()).unwrap();
        let cached = share(&Options::unlimited().with_page_cache(1 << 20)).unwrap();
        let first = page(&cached, "3");
        assert_eq!(first, page(&generated, "3"));
        let again = page(&cached, "3");
        assert_eq!(
            first.as_ptr(),
            again.as_ptr(),
            "the page is the same, not only equal"
        );
        assert_eq!(page(&cached, "2"), page(&generated, "2"));
        assert_ne!(page(&cached, "2"), first);
    }
}
