//! A server under load: requests of 100 records and of one record in a closed loop.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::load::{Load, Requests};
use crate::error::BenchError;
use crate::usage::{Cost, cpu_seconds, peak_mib};

/// Callers of single-record requests, as in the goal.
const CALLERS: usize = 256;
/// Callers of 100-record requests. The faster of both counts: few callers idle the server, many compete with it.
const BATCH_CALLERS: [usize; 2] = [32, 128];
/// Distinct requests; the load repeats them.
const DISTINCT: u64 = 500;
/// Records in a batch request.
const BATCH: u64 = 100;

/// Requests of one and of many records for one server.
#[derive(Clone)]
pub(super) struct LoadTarget {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) one: Requests,
    many: Requests,
    /// The server's process id.
    pid: u32,
}

/// A server's cost in one round, in records: in requests of 100 and of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    pub(super) many: Cost,
    pub(super) one: Cost,
}

impl LoadTarget {
    /// Creates a target with the paths for one and for many records.
    pub(super) fn new(name: &'static str, address: SocketAddr, pid: u32, [one, many]: [&str; 2]) -> Self {
        Self {
            name,
            address,
            one: Requests::new(one, DISTINCT * BATCH, 1),
            many: Requests::new(many, DISTINCT, BATCH),
            pid,
        }
    }

    /// Uses the same requests for another server.
    pub(super) fn with_server(&self, name: &'static str, address: SocketAddr, pid: u32) -> Self {
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
    /// When a request fails or its status is neither 200 nor 503.
    pub(super) async fn measure(&self, length: Duration) -> Result<Costs, BenchError> {
        let mut many = self.load(&self.many, BATCH, BATCH_CALLERS[0], length).await?;
        for callers in &BATCH_CALLERS[1..] {
            let cost = self.load(&self.many, BATCH, *callers, length).await?;
            if cost.rows_per_second() > many.rows_per_second() {
                many = cost;
            }
        }
        let one = self.load(&self.one, 1, CALLERS, length).await?;
        Ok(Costs { many, one })
    }

    /// Measures requests of this many records each.
    async fn load(
        &self,
        requests: &Requests,
        records: u64,
        callers: usize,
        length: Duration,
    ) -> Result<Cost, BenchError> {
        let load = Load {
            address: self.address,
            callers,
        };
        let used = || cpu_seconds(self.pid).unwrap_or(f64::NAN);
        let before = used();
        let result = load.closed(requests, length).await;
        let result = result.map_err(|source| BenchError::Load {
            on: self.name,
            source,
        })?;
        if result.rejected > 0 {
            println!("{} rejected {} requests with 503", self.name, result.rejected);
        }
        Ok(Cost {
            rows: result.accepted * records,
            seconds: result.seconds,
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
