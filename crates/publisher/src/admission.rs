//! How much may be in the house at once, in bytes and in records. Nobody waits here: what does not fit is refused
//! at once, which keeps both the memory and the answer time flat under overload.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;
use thiserror::Error;

use crate::metrics::PublisherMetrics;
use crate::settings::LimitSettings;

/// What a record takes besides its bytes until Kafka has acknowledged it, in bytes: librdkafka's own record of it, its
/// key and headers there, and what we note of it. Small records would fill the memory without ever filling the bound
/// otherwise.
pub(crate) const RECORD_COST: usize = 700;

/// There is no room now; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too much is in flight")]
pub struct NoRoom;

/// The bounds that all requests share.
#[derive(Clone)]
pub struct Admission {
    bytes: Arc<Budget>,
    records: Arc<Budget>,
}

impl Admission {
    /// Empty, with the bounds of `limits`.
    pub fn new(limits: &LimitSettings, metrics: &PublisherMetrics) -> Self {
        let bytes = usize::try_from(limits.max_in_flight_bytes.as_u64()).unwrap_or(usize::MAX);
        Self {
            bytes: Arc::new(Budget::new(bytes, metrics.bytes_in_flight.clone())),
            records: Arc::new(Budget::new(
                limits.max_in_flight_records,
                metrics.records_in_flight.clone(),
            )),
        }
    }

    /// A reservation of nothing yet.
    pub fn enter(&self) -> Reservation {
        Reservation {
            bytes: Share::of(&self.bytes),
            records: Share::of(&self.records),
        }
    }

    /// A reservation for an answer of that many bytes, whether they fit or not: it has to be given. What was reserved
    /// for its request was more and has just become free, so that this goes above the bound by a part of it at most.
    pub fn hold(&self, bytes: usize) -> Reservation {
        let mut reservation = self.enter();
        reservation.bytes.hold(bytes);
        reservation
    }
}

/// What one request holds of both bounds; given back when it is dropped.
pub struct Reservation {
    bytes: Share,
    records: Share,
}

impl Reservation {
    /// Whether that many bytes more would fit now. Takes nothing: a caller that announces a large body and sends
    /// it slowly must not keep others out.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn would_fit(&self, bytes: usize) -> Result<(), NoRoom> {
        self.bytes.would_fit(bytes)
    }

    /// Takes that many bytes more.
    ///
    /// # Errors
    /// [`NoRoom`]; what is held already stays held.
    pub fn take_bytes(&mut self, more: usize) -> Result<(), NoRoom> {
        self.bytes.take(more)
    }

    /// Takes that many records more, and the bytes that each of them costs.
    ///
    /// # Errors
    /// [`NoRoom`]; what is held already stays held.
    pub fn take_records(&mut self, more: usize) -> Result<(), NoRoom> {
        self.records.take(more)?;
        let costs = self.bytes.take(more.saturating_mul(RECORD_COST));
        if costs.is_err() {
            self.records.give_back(more);
        }
        costs
    }

    /// Gives back bytes that were not needed.
    pub(crate) fn give_back_bytes(&mut self, surplus: usize) {
        self.bytes.give_back(surplus);
    }

    /// Gives back the records above `kept`: those that turned out not to go to Kafka. What is told of them instead
    /// takes memory, too, so that their bytes stay taken.
    pub fn keep_records(&mut self, kept: usize) {
        let surplus = self.records.held.saturating_sub(kept);
        self.records.give_back(surplus);
    }
}

struct Budget {
    limit: usize,
    used: AtomicUsize,
    gauge: IntGauge,
}

impl Budget {
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

    fn take(&self, more: usize) -> Result<(), NoRoom> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| self.fits(used, more))
            .map_err(|_| NoRoom)?;
        self.gauge.add(signed(more));
        Ok(())
    }

    fn hold(&self, more: usize) {
        self.used.fetch_add(more, Ordering::AcqRel);
        self.gauge.add(signed(more));
    }

    fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::AcqRel);
        self.gauge.sub(signed(count));
    }
}

struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    fn of(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            held: 0,
        }
    }

    fn would_fit(&self, more: usize) -> Result<(), NoRoom> {
        let used = self.budget.used.load(Ordering::Acquire);
        self.budget.fits(used, more).map(drop).ok_or(NoRoom)
    }

    fn take(&mut self, more: usize) -> Result<(), NoRoom> {
        self.budget.take(more)?;
        self.held += more;
        Ok(())
    }

    fn hold(&mut self, more: usize) {
        self.budget.hold(more);
        self.held += more;
    }

    fn give_back(&mut self, surplus: usize) {
        self.budget.give_back(surplus);
        self.held -= surplus;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
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
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let (admission, metrics) = admission(100);
        let mut first = admission.enter();
        first.take_bytes(60).unwrap();
        let mut second = admission.enter();
        assert_eq!(second.would_fit(41), Err(NoRoom));
        assert_eq!(second.take_bytes(41), Err(NoRoom));
        second.take_bytes(40).unwrap();
        assert_eq!(second.take_bytes(usize::MAX), Err(NoRoom));
        assert_eq!(metrics.bytes_in_flight.get(), 100);
    }

    #[test]
    fn what_is_dropped_or_not_needed_makes_room() {
        let (admission, metrics) = admission(20 * RECORD_COST);
        let mut first = admission.enter();
        first.take_records(10).unwrap();
        first.keep_records(4);
        assert_eq!(metrics.records_in_flight.get(), 4);
        let mut second = admission.enter();
        second.take_records(6).unwrap();
        assert_eq!(second.take_records(1), Err(NoRoom));
        assert_eq!(metrics.bytes_in_flight.get(), 16 * signed(RECORD_COST));
        drop(first);
        second.take_records(4).unwrap();
        assert_eq!(metrics.bytes_in_flight.get(), 10 * signed(RECORD_COST));
        drop(second);
        assert_eq!(metrics.records_in_flight.get(), 0);
        assert_eq!(metrics.bytes_in_flight.get(), 0);
    }

    #[test]
    fn an_answer_is_held_in_any_case_and_keeps_others_out_while_it_is() {
        let (admission, metrics) = admission(100);
        let answer = admission.hold(130);
        assert_eq!(metrics.bytes_in_flight.get(), 130);
        assert_eq!(admission.enter().take_bytes(1), Err(NoRoom));
        drop(answer);
        assert_eq!(admission.enter().take_bytes(100), Ok(()));
    }

    #[test]
    fn a_record_takes_memory_however_small_it_is() {
        let (admission, _) = admission(3 * RECORD_COST);
        let mut first = admission.enter();
        first.take_records(3).unwrap();
        assert_eq!(admission.enter().take_records(1), Err(NoRoom));
    }
}
