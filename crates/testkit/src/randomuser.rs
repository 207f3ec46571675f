//! The random-user API without the network: same routes, parameters, shapes and odd rules, with faults on demand.
//!
//! `GET /api/`, `/api/1.4/`, `/api/1.3/` and `/api/1.2/` take `results`, `page`, `seed`, `nat`, `gender`, `inc`,
//! `exc` and `format=json`. The same version, seed, page and filters give the same people; those of a page with
//! fewer results are the first of the longer one. All people are made up here, from tables of our own. It offers
//! no other formats, no portraits, and no hash is that of its password.
//!
//! Scripts inject faults with `POST /_faults` (`{"fault": "hang:2s", "times": 3}`, notation as in [`Fault`]), take
//! them back with `DELETE /_faults`, and read what was asked from `GET /_requests`.

mod budget;
mod connection;
mod damage;
mod delivery;
mod fault;
mod journal;
mod login;
mod memo;
mod nationality;
mod page;
mod pattern;
mod person;
mod query;
mod record;
mod refusal;
mod samples;
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

pub use budget::{Budget, Refusal};
pub use damage::BrokenField;
pub use fault::{Fault, ParseFaultError};
pub use journal::{Outcome, ServedRequest};
pub use samples::SamplesError;

use connection::{Peer, ResettableListener};
use server::{Shared, lock};

/// How the API behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0, the default, takes a free one of loopback.
    pub listen: SocketAddr,
    /// Users per client address; `None` for benches. The API's own by default.
    pub budget: Option<Budget>,
    /// From which the seeds of requests without one are drawn: equal values draw the same ones in order.
    pub rng_seed: u64,
    /// Bits of chance in a drawn seed, at most 32, which is what the real API has. A few make pages repeat soon.
    pub seed_bits: u32,
    /// When ages are counted: a later day gives replies that differ in them and nothing else.
    pub today: Timestamp,
    /// How many bytes of whole pages it remembers, so that it need not make them again; 0, the default: none.
    pub remembered_bytes: usize,
    /// A folder of whole replies to serve in place of generated people, see [`Options::samples`].
    pub samples: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            budget: Some(Budget::default()),
            rng_seed: 0,
            seed_bits: 32,
            today: Timestamp::constant(1_767_225_600, 0),
            remembered_bytes: 0,
            samples: None,
        }
    }
}

impl Options {
    /// Serves the records of the whole replies in `folder`, as they are and newest version first, cut into pages
    /// of the size asked for, whatever the seed and filters. `info.version` is that of the path; the last page is
    /// short, those behind it are empty, and `info.results` counts what is there.
    pub fn samples(folder: impl Into<PathBuf>) -> Self {
        Self {
            samples: Some(folder.into()),
            ..Self::default()
        }
    }

    /// Without a budget, for benches.
    pub fn unlimited() -> Self {
        Self {
            budget: None,
            ..Self::default()
        }
    }

    /// The same, and pages that were asked for before are not made again, as far as they fit into `bytes`.
    #[must_use]
    pub fn remembering(self, bytes: usize) -> Self {
        Self {
            remembered_bytes: bytes,
            ..self
        }
    }
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The samples can't be served.
    #[error("can't serve the samples")]
    Samples(#[source] SamplesError),
}

/// The API while it serves. Dropping it ends it: idle connections at once, held requests with a 503, held
/// bodies broken off.
#[derive(Debug)]
pub struct RandomUserApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl RandomUserApi {
    const GRACE: Duration = Duration::from_secs(5);

    /// Listens and serves.
    ///
    /// # Errors
    /// When the address is taken or the samples can't be read.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let listening = |source| StartError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let shared = Arc::new(share(&options)?);
        let service = server::router(Arc::clone(&shared)).into_make_service_with_connect_info::<Peer>();
        let stopped = shared.stop.clone().cancelled_owned();
        let serving = axum::serve(ResettableListener(listener), service).with_graceful_shutdown(stopped);
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the random-user API ended early"
                );
            }
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The latest 10,000 requests of the API, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ServedRequest> {
        lock(&self.shared.journal).requests()
    }

    /// When the first request since `then` came, of the latest 10,000.
    #[must_use]
    pub fn first_request_since(&self, then: Instant) -> Option<Instant> {
        lock(&self.shared.journal).first_since(then)
    }

    /// Lets `fault` befall the next `times` requests, after the faults that already wait.
    ///
    /// # Panics
    /// When 1,000 injections already wait, which only a test gone wrong does.
    pub fn inject(&self, fault: Fault, times: u32) {
        let room = lock(&self.shared.faults).push(fault, times);
        assert!(room, "at most 1,000 injected faults wait at once");
    }

    /// Takes back the faults that still wait.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Stops and waits, for 5 s at most, until the last connection has ended.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        match tokio::time::timeout(Self::GRACE, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the random-user API panicked"
            ),
            Err(_) => tracing::warn!("the random-user API was stopped with connections still open"),
        }
    }
}

impl Drop for RandomUserApi {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

fn share(options: &Options) -> Result<Shared, StartError> {
    let samples = options
        .samples
        .as_deref()
        .map(samples::Samples::read)
        .transpose()
        .map_err(StartError::Samples)?;
    let nationalities = nationality::Nationalities::load();
    Ok(Shared {
        people: page::People {
            nationalities,
            samples,
            today: options.today,
        },
        faults: Mutex::default(),
        ledger: Mutex::new(budget::Ledger::new(options.budget)),
        journal: Mutex::default(),
        memo: Mutex::new(memo::Memo::new(options.remembered_bytes)),
        seeds: Mutex::new(Xoshiro256PlusPlus::seed_from_u64(options.rng_seed)),
        seed_bits: options.seed_bits.min(32),
        stop: tokio_util::sync::CancellationToken::new(),
    })
}
