//! A server under the load that the goals speak of: requests of a hundred records and of one, from callers without
//! pause.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::PublisherBenchError;
use super::load::{Load, Requests};
use crate::usage::{Cost, cpu_seconds, peak_mib};

/// Callers of one record a request, as the goal says.
const CALLERS: usize = 256;
/// Callers of a hundred records a request. Each server is measured with either number and has the better figure: few
/// callers leave one waiting for them, many get in another's way.
const BATCH_CALLERS: [usize; 2] = [32, 128];
/// Requests that are different; they are sent again and again.
const DIFFERENT: u64 = 500;
/// Records in a request of many.
const MANY: u64 = 100;

/// Requests of one and of many records, for one server.
#[derive(Clone)]
pub(super) struct Contest {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) one: Requests,
    many: Requests,
    /// The server's process.
    pid: u32,
}

/// What one server carried in a round, in records, and what it cost it: in requests of 100, and of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    pub(super) many: Cost,
    pub(super) one: Cost,
}

impl Contest {
    /// The paths for requests of one and of many records.
    pub(super) fn new(name: &'static str, address: SocketAddr, pid: u32, [one, many]: [&str; 2]) -> Self {
        Self {
            name,
            address,
            one: Requests::new(one, DIFFERENT * MANY, 1),
            many: Requests::new(many, DIFFERENT, MANY),
            pid,
        }
    }

    /// The same requests for another server.
    pub(super) fn elsewhere(&self, name: &'static str, address: SocketAddr, pid: u32) -> Self {
        Self {
            name,
            address,
            pid,
            ..self.clone()
        }
    }

    /// Measures each kind of request for `length`.
    ///
    /// # Errors
    /// When a request has no answer, or another than 200 and 503.
    pub(super) async fn measure(&self, length: Duration) -> Result<Costs, PublisherBenchError> {
        let mut many = self.load(&self.many, MANY, BATCH_CALLERS[0], length).await?;
        for callers in &BATCH_CALLERS[1..] {
            let cost = self.load(&self.many, MANY, *callers, length).await?;
            if cost.rows_per_second() > many.rows_per_second() {
                many = cost;
            }
        }
        let one = self.load(&self.one, 1, CALLERS, length).await?;
        Ok(Costs { many, one })
    }

    /// Requests of so many records each.
    async fn load(
        &self,
        requests: &Requests,
        records: u64,
        callers: usize,
        length: Duration,
    ) -> Result<Cost, PublisherBenchError> {
        let load = Load {
            address: self.address,
            callers,
        };
        let used = || cpu_seconds(self.pid).unwrap_or(f64::NAN);
        let before = used();
        let carried = load.closed(requests, length).await;
        let carried = carried.map_err(|source| PublisherBenchError::Load {
            on: self.name,
            source,
        })?;
        if carried.refused > 0 {
            println!("{} refused {} requests with 503", self.name, carried.refused);
        }
        Ok(Cost {
            rows: carried.accepted * records,
            seconds: carried.seconds,
            cpu_seconds: used() - before,
            peak_mib: peak_mib(self.pid).unwrap_or(f64::NAN),
        })
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} records/s in requests of 100 and {:.0} one-record requests/s",
            self.many.rows_per_second(),
            self.one.rows_per_second()
        )
    }
}
