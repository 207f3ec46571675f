//! The routes: the API itself, and `/_faults` and `/_requests` for scripts.

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

use super::{
    budget::Ledger,
    connection::Peer,
    delivery,
    fault::{Fault, FaultQueue},
    journal::{Journal, Outcome, ServedRequest},
    memo::Memo,
    page::{People, Request},
    query::Query,
    refusal,
    version::Version,
};

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) people: People,
    pub(super) faults: Mutex<FaultQueue>,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) journal: Mutex<Journal>,
    pub(super) memo: Mutex<Memo>,
    pub(super) seeds: Mutex<Xoshiro256PlusPlus>,
    /// How many bits a drawn seed has.
    pub(super) seed_bits: u32,
    pub(super) stop: CancellationToken,
}

/// The routes over this state.
pub(super) fn router(shared: Arc<Shared>) -> Router {
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
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Response {
    shared.answer(Version::LATEST, &parameters, peer, &uri).await
}

async fn versioned(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    uri: Uri,
    Path(segment): Path<String>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Response {
    let Some(version) = Version::of_segment(&segment) else {
        shared.note(&uri, Outcome::NotOffered);
        return refusal::error(StatusCode::NOT_FOUND, "this version is not offered");
    };
    shared.answer(version, &parameters, peer, &uri).await
}

impl Shared {
    async fn answer(
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
            self.note(uri, Outcome::NotOffered);
            return refusal::error(StatusCode::NOT_IMPLEMENTED, "only JSON is offered");
        }
        let query = Query::parse(parameters, self.people.nationalities.of(version));
        let fault = lock(&self.faults).pop();
        if let Some((fault, refused)) = fault
            .as_ref()
            .and_then(|fault| Some((fault, refusal::of_fault(fault)?)))
        {
            self.note(uri, Outcome::Faulted(fault.clone()));
            return refused;
        }
        if let Err(refused) = lock(&self.ledger).book(peer.address.ip(), query.results, Instant::now()) {
            self.note(uri, Outcome::OverBudget);
            return refusal::over_budget(refused);
        }
        let served = Outcome::Served {
            users: self.people.available(&query),
        };
        self.note(uri, fault.clone().map_or(served, Outcome::Faulted));
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
        // A page of 5,000 keeps a core busy for longer than other requests should wait.
        let drawn = tokio::task::spawn_blocking(move || (self.page(&request, fault.as_ref()), fault));
        match drawn.await {
            Ok((page, fault)) => delivery::deliver(page, fault.as_ref(), peer, &stop),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a page was not generated"
                );
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    /// The page, made or remembered; a spoilt one is made each time.
    fn page(&self, request: &Request, fault: Option<&Fault>) -> Bytes {
        if fault.is_some() || !lock(&self.memo).remembers() {
            return self.people.reply(request, fault).into();
        }
        let name = request.name();
        if let Some(page) = lock(&self.memo).find(&name) {
            return page;
        }
        let page = Bytes::from(self.people.reply(request, None));
        lock(&self.memo).keep(name, page.clone());
        page
    }

    /// 16 hexadecimal digits that hold no more than `seed_bits` of chance.
    fn draw_seed(&self) -> String {
        let drawn = u64::from(lock(&self.seeds).next_u32()) & ((1 << self.seed_bits) - 1);
        format!("{:016x}", (drawn + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn note(&self, uri: &Uri, outcome: Outcome) {
        let (path, query) = (uri.path().to_owned(), uri.query().unwrap_or_default().to_owned());
        lock(&self.journal).note(Instant::now(), ServedRequest { path, query, outcome });
    }
}

/// What is behind these locks is whole between any two statements, so a panic elsewhere spoils nothing.
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

async fn inject(State(shared): State<Arc<Shared>>, Json(injection): Json<Injection>) -> StatusCode {
    let room = lock(&shared.faults).push(injection.fault, injection.times);
    if room {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CONFLICT
    }
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    lock(&shared.faults).clear();
    StatusCode::NO_CONTENT
}

async fn requests(State(shared): State<Arc<Shared>>) -> Json<Vec<ServedRequest>> {
    Json(lock(&shared.journal).requests())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomuser::{Options, share};

    /// The page of so many users of one seed.
    fn page(shared: &Shared, results: &str) -> Bytes {
        let parameters = HashMap::from([("results".to_owned(), results.to_owned())]);
        let query = Query::parse(&parameters, shared.people.nationalities.of(Version::LATEST));
        shared.page(&Request::new(Version::LATEST, query, "seed".to_owned()), None)
    }

    #[test]
    fn a_remembered_page_is_the_one_that_would_be_made_again() {
        let made = share(&Options::unlimited()).unwrap();
        let remembered = share(&Options::unlimited().remembering(1 << 20)).unwrap();
        let first = page(&remembered, "3");
        assert_eq!(first, page(&made, "3"));
        let again = page(&remembered, "3");
        assert_eq!(
            first.as_ptr(),
            again.as_ptr(),
            "it is the same page, not an equal one"
        );
        assert_eq!(page(&remembered, "2"), page(&made, "2"));
        assert_ne!(page(&remembered, "2"), first);
    }
}
