//! Admission control: limits the bytes and records in flight.
//!
//! A request that does not fit is rejected at once and never waits. So memory and latency stay flat under overload.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;
use thiserror::Error;

use super::caller_share::{CallerUsage, RecentCallers};
use super::cost::{RECORD_COST, REQUEST_COST};
use crate::config::LimitSettings;
use crate::metrics::PublisherMetrics;

/// A limit is reached; nothing was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the limit of bytes or records in flight is reached")]
pub struct Overloaded;

/// The limits that all requests share.
#[derive(Clone)]
pub struct Admission {
    bytes: Arc<Limit>,
    records: Arc<Limit>,
    callers: Arc<RecentCallers>,
}

impl Admission {
    /// Nothing in flight, with the limits of `limits`.
    pub fn new(limits: &LimitSettings, metrics: &PublisherMetrics) -> Self {
        let bytes = usize::try_from(limits.max_in_flight_bytes.as_u64()).unwrap_or(usize::MAX);
        Self {
            bytes: Arc::new(Limit::new(bytes, metrics.bytes_in_flight.clone())),
            records: Arc::new(Limit::new(
                limits.max_in_flight_records,
                metrics.records_in_flight.clone(),
            )),
            callers: Arc::new(RecentCallers::new()),
        }
    }

    /// A permit that holds nothing yet and is no caller's.
    pub fn enter(&self) -> AdmissionPermit {
        self.permit(None)
    }

    /// A permit of `caller` that holds nothing yet. While others call, all permits of a caller together hold at most
    /// half of the bytes; a single one may hold more, so that the largest request fits.
    pub fn enter_as(&self, caller: &Arc<CallerUsage>) -> AdmissionPermit {
        self.callers.record(caller);
        self.permit(Some(CallerShare {
            usage: Arc::clone(caller),
            callers: Arc::clone(&self.callers),
        }))
    }

    fn permit(&self, caller: Option<CallerShare>) -> AdmissionPermit {
        AdmissionPermit {
            bytes: LimitShare::new(&self.bytes),
            records: LimitShare::new(&self.records),
            caller,
        }
    }

    /// A permit for a request without its body and records: `REQUEST_COST` bytes.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn enter_request(&self) -> Result<AdmissionPermit, Overloaded> {
        let mut permit = self.enter();
        permit.acquire_bytes(REQUEST_COST)?;
        Ok(permit)
    }
}

/// What one request holds of both limits. Dropping it releases them.
pub struct AdmissionPermit {
    bytes: LimitShare,
    records: LimitShare,
    caller: Option<CallerShare>,
}

/// The caller of a permit.
struct CallerShare {
    usage: Arc<CallerUsage>,
    callers: Arc<RecentCallers>,
}

impl AdmissionPermit {
    /// Checks whether that many more bytes would fit now. Acquires nothing: a caller that announces a large body and
    /// sends it slowly must not block others.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn check_bytes(&self, bytes: usize) -> Result<(), Overloaded> {
        self.check_share(bytes)?;
        self.bytes.check(bytes)
    }

    /// Acquires that many more bytes.
    ///
    /// # Errors
    /// [`Overloaded`]; the permit keeps what it holds.
    pub fn acquire_bytes(&mut self, more: usize) -> Result<(), Overloaded> {
        self.check_share(more)?;
        self.bytes.acquire(more)?;
        self.count_for_caller(more);
        Ok(())
    }

    /// Acquires that many more bytes, even above the limit: they are in memory already.
    pub(crate) fn acquire_bytes_above_limit(&mut self, more: usize) {
        self.bytes.acquire_above_limit(more);
        self.count_for_caller(more);
    }

    fn count_for_caller(&self, more: usize) {
        if let Some(caller) = &self.caller {
            caller.usage.add(more);
        }
    }

    /// Checks the share of the caller. Two requests of a caller at the same moment may exceed it a little.
    fn check_share(&self, more: usize) -> Result<(), Overloaded> {
        let Some(caller) = &self.caller else {
            return Ok(());
        };
        let used = caller.usage.bytes();
        let is_only_request = used <= self.bytes.held;
        let fits = used.saturating_add(more) <= self.bytes.limit.limit / 2;
        if is_only_request || fits || !caller.callers.are_several() {
            Ok(())
        } else {
            Err(Overloaded)
        }
    }

    /// Acquires that many more records, and `RECORD_COST` bytes for each.
    ///
    /// # Errors
    /// [`Overloaded`]; the permit keeps what it holds.
    pub fn acquire_records(&mut self, more: usize) -> Result<(), Overloaded> {
        self.records.acquire(more)?;
        let cost = self.acquire_bytes(more.saturating_mul(RECORD_COST));
        if cost.is_err() {
            self.records.release(more);
        }
        cost
    }

    /// Releases bytes that were not used.
    pub(crate) fn release_bytes(&mut self, surplus: usize) {
        self.bytes.release(surplus);
        if let Some(caller) = &self.caller {
            caller.usage.sub(surplus);
        }
    }

    /// Releases the records above `kept`, which do not go to Kafka. Their bytes stay acquired, because their errors
    /// take memory as well.
    pub fn keep_records(&mut self, kept: usize) {
        let surplus = self.records.held.saturating_sub(kept);
        self.records.release(surplus);
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        if let Some(caller) = &self.caller {
            caller.usage.sub(self.bytes.held);
        }
    }
}

/// A limit and its use, with the gauge that shows the use.
struct Limit {
    limit: usize,
    used: AtomicUsize,
    gauge: IntGauge,
}

impl Limit {
    fn new(limit: usize, gauge: IntGauge) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            gauge,
        }
    }

    fn fits(&self, used: usize, more: usize) -> Option<usize> {
        used.checked_add(more).filter(|sum| *sum <= self.limit)
    }

    fn acquire(&self, more: usize) -> Result<(), Overloaded> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| self.fits(used, more))
            .map_err(|_| Overloaded)?;
        self.gauge.add(signed(more));
        Ok(())
    }

    fn acquire_above_limit(&self, more: usize) {
        self.used.fetch_add(more, Ordering::AcqRel);
        self.gauge.add(signed(more));
    }

    fn release(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::AcqRel);
        self.gauge.sub(signed(count));
    }
}

/// What one permit holds of one limit.
struct LimitShare {
    limit: Arc<Limit>,
    held: usize,
}

impl LimitShare {
    fn new(limit: &Arc<Limit>) -> Self {
        Self {
            limit: Arc::clone(limit),
            held: 0,
        }
    }

    fn check(&self, more: usize) -> Result<(), Overloaded> {
        let used = self.limit.used.load(Ordering::Acquire);
        self.limit.fits(used, more).map(drop).ok_or(Overloaded)
    }

    fn acquire(&mut self, more: usize) -> Result<(), Overloaded> {
        self.limit.acquire(more)?;
        self.held += more;
        Ok(())
    }

    fn acquire_above_limit(&mut self, more: usize) {
        self.limit.acquire_above_limit(more);
        self.held += more;
    }

    fn release(&mut self, surplus: usize) {
        self.limit.release(surplus);
        self.held -= surplus;
    }
}

impl Drop for LimitShare {
    fn drop(&mut self) {
        self.limit.release(self.held);
    }
}

/// Counts of bytes and records in memory are far below the range of `i64`.
fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use service::Metrics;

    use super::*;

    fn admission(bytes: usize) -> (Admission, PublisherMetrics) {
        let limits = LimitSettings {
            max_in_flight_bytes: ByteSize(bytes as u64),
            max_in_flight_records: 10,
            ..LimitSettings::default()
        };
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        (Admission::new(&limits, &metrics), metrics)
    }

    #[test]
    fn rejected_request_acquires_nothing() {
        let (admission, metrics) = admission(100);
        let mut first = admission.enter();
        first.acquire_bytes(60).unwrap();
        let mut second = admission.enter();
        assert_eq!(second.check_bytes(41), Err(Overloaded));
        assert_eq!(second.acquire_bytes(41), Err(Overloaded));
        second.acquire_bytes(40).unwrap();
        assert_eq!(second.acquire_bytes(usize::MAX), Err(Overloaded));
        assert_eq!(metrics.bytes_in_flight.get(), 100);
    }

    #[test]
    fn dropped_and_surplus_permits_are_released() {
        let (admission, metrics) = admission(20 * RECORD_COST);
        let mut first = admission.enter();
        first.acquire_records(10).unwrap();
        first.keep_records(4);
        assert_eq!(metrics.records_in_flight.get(), 4);
        let mut second = admission.enter();
        second.acquire_records(6).unwrap();
        assert_eq!(second.acquire_records(1), Err(Overloaded));
        assert_eq!(metrics.bytes_in_flight.get(), 16 * signed(RECORD_COST));
        drop(first);
        second.acquire_records(4).unwrap();
        assert_eq!(metrics.bytes_in_flight.get(), 10 * signed(RECORD_COST));
        drop(second);
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.bytes_in_flight.get(), 0);
    }

    #[test]
    fn response_exceeds_the_limit_and_blocks_requests() {
        let (admission, metrics) = admission(100);
        let mut response = admission.enter();
        response.acquire_bytes_above_limit(130);
        assert_eq!(metrics.bytes_in_flight.get(), 130);
        assert_eq!(admission.enter().acquire_bytes(1), Err(Overloaded));
        drop(response);
        assert_eq!(admission.enter().acquire_bytes(100), Ok(()));
    }

    #[test]
    fn caller_holds_half_while_others_call() {
        let (admission, metrics) = admission(100);
        let (greedy, other) = (Arc::default(), Arc::default());
        let acquired = |caller: &Arc<CallerUsage>, bytes| {
            let mut permit = admission.enter_as(caller);
            permit.check_bytes(bytes)?;
            permit.acquire_bytes(bytes).map(|()| permit)
        };
        let alone = [acquired(&greedy, 60).unwrap(), acquired(&greedy, 40).unwrap()];
        assert!(acquired(&other, 1).is_err(), "the limit is used up");
        drop(alone);
        let first = acquired(&greedy, 40).unwrap();
        assert!(acquired(&greedy, 11).is_err(), "the other caller has called");
        let second = acquired(&greedy, 10).unwrap();
        assert!(acquired(&other, 50).is_ok());
        drop((first, second));
        assert!(acquired(&greedy, 100).is_ok(), "a single large request fits");
        assert_eq!((greedy.bytes(), metrics.bytes_in_flight.get()), (0, 0));
    }

    #[test]
    fn requests_without_bodies_are_limited() {
        let (admission, _) = admission(3 * REQUEST_COST);
        let held: Vec<_> = (0..3).map(|_| admission.enter_request().unwrap()).collect();
        assert!(admission.enter_request().is_err());
        drop(held);
        assert!(admission.enter_request().is_ok());
    }

    #[test]
    fn small_records_count_with_their_cost() {
        let (admission, _) = admission(3 * RECORD_COST);
        let mut first = admission.enter();
        first.acquire_records(3).unwrap();
        assert_eq!(admission.enter().acquire_records(1), Err(Overloaded));
    }
}
