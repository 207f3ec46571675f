//! A server under the load that the goals speak of: requests of a hundred records and of one, from callers without
//! pause.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::PublisherBenchError;
use super::load::{Carried, Load, Requests};

/// Callers of one record a request, as the goal says.
const CALLERS: usize = 256;
/// Callers of a hundred records a request. Each server is measured with either number and has the better figure: few
/// callers leave one waiting for them, many get in another's way.
const BATCH_CALLERS: [usize; 2] = [32, 128];
/// Requests that are different; they are sent again and again.
const DIFFERENT: u64 = 500;

/// Requests of one and of many records, for one server.
#[derive(Clone)]
pub(super) struct Contest {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) one: Requests,
    many: Requests,
}

/// What one server carried in a round: records each second in requests of 100, requests each second of one record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speed {
    pub(super) records: f64,
    pub(super) singles: f64,
}

/// One round of all: the bare loop's records each second, the publisher, and Benthos while it takes part.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    pub(super) bare: f64,
    pub(super) ours: Speed,
    pub(super) peer: Option<Speed>,
}

impl Contest {
    /// The paths for requests of one and of many records.
    pub(super) fn new(name: &'static str, address: SocketAddr, [one, many]: [&str; 2]) -> Self {
        Self {
            name,
            address,
            one: Requests::new(one, DIFFERENT * 100, 1),
            many: Requests::new(many, DIFFERENT, 100),
        }
    }

    /// The same requests for another server.
    pub(super) fn elsewhere(&self, name: &'static str, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            ..self.clone()
        }
    }

    /// Measures each kind of request for `length`.
    ///
    /// # Errors
    /// When a request has no answer, or another than 200 and 503.
    pub(super) async fn measure(&self, length: Duration) -> Result<Speed, PublisherBenchError> {
        let mut records = 0.0_f64;
        for callers in BATCH_CALLERS {
            let many = self.load(&self.many, callers, length).await?;
            records = records.max(many.per_second() * 100.0);
        }
        let one = self.load(&self.one, CALLERS, length).await?;
        Ok(Speed {
            records,
            singles: one.per_second(),
        })
    }

    async fn load(
        &self,
        requests: &Requests,
        callers: usize,
        length: Duration,
    ) -> Result<Carried, PublisherBenchError> {
        let load = Load {
            address: self.address,
            callers,
        };
        let carried = load.closed(requests, length).await;
        let carried = carried.map_err(|source| PublisherBenchError::Load {
            on: self.name,
            source,
        })?;
        if carried.refused > 0 {
            println!("{} refused {} requests with 503", self.name, carried.refused);
        }
        Ok(carried)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} records/s in requests of 100 and {:.0} one-record requests/s",
            self.records, self.singles
        )
    }
}

impl fmt::Display for Carriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bare loop {:.0} records/s, publisher {}", self.bare, self.ours)?;
        match &self.peer {
            Some(peer) => write!(f, ", Benthos {peer}"),
            None => Ok(()),
        }
    }
}
