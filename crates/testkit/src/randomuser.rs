//! The random-user API without the network: the real API's routes, parameters, record shapes and quirks, and faults.
//!
//! `GET /api/`, `/api/1.4/`, `/api/1.3/` and `/api/1.2/` take `results`, `page`, `seed`, `nat`, `gender`, `inc`, `exc` and
//! `format=json`. Version, seed, page and filters determine the people. Fewer results are a prefix of the longer page. All
//! people are generated from the testkit's own tables. There are no other formats and no portraits.
//!
//! Scripts inject faults with `POST /_faults` (`{"fault": "hang:2s", "times": 3}`, in the notation of [`Fault`]), remove
//! them with `DELETE /_faults`, and read the requests with `GET /_requests`.

mod fault;
mod nationality;
mod page;
mod person;
mod pick;
mod query;
mod server;
mod version;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use tokio::{net::TcpListener, task::JoinHandle};

pub use self::fault::{BrokenField, Fault, ParseFaultError};
pub use self::page::SamplesError;
use self::server::{ApiShared, Peer, lock};
pub use self::server::{RateLimit, RateLimitReply, ServedOutcome, ServedRequest};

/// Options of the API.
#[derive(Clone, Debug)]
pub struct Options {
    /// The listen address. The default is a free port of loopback.
    pub listen: SocketAddr,
    /// Users per client address; `None` for benches. The default is the real API's.
    pub rate_limit: Option<RateLimit>,
    /// The seed of the seeds for requests without one.
    pub rng_seed: u64,
    /// Random bits of such a seed, at most 32 as at the real API. With few bits pages repeat soon.
    pub seed_bits: u32,
    /// The date of the ages. Nothing else depends on it.
    pub today: Timestamp,
    /// Size of the page cache in bytes; 0, the default, disables it.
    pub page_cache_size: usize,
    /// A folder of stored responses to serve instead of generated people, see [`Options::samples`].
    pub samples: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            rate_limit: Some(RateLimit::default()),
            rng_seed: 0,
            seed_bits: 32,
            today: Timestamp::constant(1_767_225_600, 0),
            page_cache_size: 0,
            samples: None,
        }
    }
}

impl Options {
    /// Serves the records of the complete responses in `folder`, newest version first, in pages of the requested size.
    /// Seed and filters have no effect. `info.version` is the path's. The last page is short, later ones are empty, and
    /// `info.results` counts the records served.
    pub fn samples(folder: impl Into<PathBuf>) -> Self {
        Self {
            samples: Some(folder.into()),
            ..Self::default()
        }
    }

    /// Without a rate limit, for benches.
    pub fn unlimited() -> Self {
        Self {
            rate_limit: None,
            ..Self::default()
        }
    }

    /// With a page cache of `bytes`.
    #[must_use]
    pub fn with_page_cache(self, bytes: usize) -> Self {
        Self {
            page_cache_size: bytes,
            ..self
        }
    }
}

/// Why the API failed to start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ApiStartError {
    #[error("failed to listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("failed to load the samples")]
    Samples(#[source] SamplesError),
}

/// The running API. Dropping it stops it: idle connections at once, hanging requests with a 503, stalled bodies by an
/// abort.
#[derive(Debug)]
pub struct RandomUserApi {
    address: SocketAddr,
    shared: Arc<ApiShared>,
    task: JoinHandle<()>,
}

impl RandomUserApi {
    const GRACE: Duration = Duration::from_secs(5);

    /// Listens and serves.
    pub async fn start(options: Options) -> Result<Self, ApiStartError> {
        let listening = |source| ApiStartError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let shared = Arc::new(share(&options)?);
        let service = server::router(Arc::clone(&shared)).into_make_service_with_connect_info::<Peer>();
        let stopped = shared.stop.clone().cancelled_owned();
        let serving = axum::serve(listener, service).with_graceful_shutdown(stopped);
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the random-user API stopped early"
                );
            }
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// The listen address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The latest 10,000 requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ServedRequest> {
        lock(&self.shared.log).requests()
    }

    /// The time of the first request since `then`, of the latest 10,000.
    #[must_use]
    pub fn first_request_since(&self, then: Instant) -> Option<Instant> {
        lock(&self.shared.log).first_since(then)
    }

    /// Applies `fault` to the next `times` requests, after the faults that are already queued.
    ///
    /// # Panics
    /// When 1,000 injections are queued, which only a faulty test does.
    pub fn inject(&self, fault: Fault, times: u32) {
        let has_space = lock(&self.shared.faults).push(fault, times);
        assert!(has_space, "at most 1,000 injected faults are queued");
    }

    /// Removes the queued faults.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Stops and waits up to 5 s until the last connection has ended.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        match tokio::time::timeout(Self::GRACE, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the random-user API panicked"
            ),
            Err(_) => tracing::warn!("the random-user API stopped with open connections"),
        }
    }
}

impl Drop for RandomUserApi {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

fn share(options: &Options) -> Result<ApiShared, ApiStartError> {
    let samples = options
        .samples
        .as_deref()
        .map(page::Samples::read)
        .transpose()
        .map_err(ApiStartError::Samples)?;
    let nationalities = nationality::Nationalities::load();
    Ok(ApiShared {
        people: page::People {
            nationalities,
            samples,
            today: options.today,
        },
        faults: Mutex::default(),
        rate_limiter: Mutex::new(server::RateLimiter::new(options.rate_limit)),
        log: Mutex::default(),
        cache: Mutex::new(page::PageCache::new(options.page_cache_size)),
        seeds: Mutex::new(Xoshiro256PlusPlus::seed_from_u64(options.rng_seed)),
        seed_bits: options.seed_bits.min(32),
        stop: tokio_util::sync::CancellationToken::new(),
    })
}
