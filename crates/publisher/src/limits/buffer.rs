//! A growing buffer for one body, limited by the body's own size limit and by admission.
//!
//! It acquires bytes before it allocates them, and for its whole capacity: many bodies that have just begun must not
//! allocate more than the limit. It does no I/O.

use std::io::Read;

use bytes::Bytes;

use super::admission::{AdmissionPermit, Overloaded};

/// The capacity is at most this multiple of the received bytes. So a caller that announces much and sends little
/// holds little, and copying costs less than reading did.
const GROWTH: usize = 2;

/// How much is read from a decoder between two checks of the size, in bytes.
const STEP: usize = 64 * 1024;

/// The bytes of one body. A body that arrives in one chunk is not copied.
pub(crate) struct Buffer {
    /// The first chunk, until a second one arrives.
    first: Bytes,
    /// All chunks, once there is a second one.
    joined: Vec<u8>,
    /// The acquired bytes.
    acquired: usize,
    /// The capacity that growth alone does not exceed, in bytes: the announced length, or the limit.
    expected: usize,
}

impl Buffer {
    /// An empty buffer for a body of probably at most `expected` bytes.
    pub(crate) fn new(expected: usize) -> Self {
        Self {
            first: Bytes::new(),
            joined: Vec::new(),
            acquired: 0,
            expected,
        }
    }

    /// The number of received bytes.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub(crate) fn push(&mut self, chunk: Bytes, permit: &mut AdmissionPermit) -> Result<(), Overloaded> {
        if self.len() == 0 {
            permit.acquire_bytes(chunk.len())?;
            self.acquired = chunk.len();
            self.first = chunk;
            return Ok(());
        }
        self.reserve(chunk.len(), permit)?;
        let first = std::mem::take(&mut self.first);
        self.joined.extend_from_slice(&first);
        self.joined.extend_from_slice(&chunk);
        Ok(())
    }

    /// Reads some bytes of `source` and returns their number; zero at its end.
    ///
    /// # Errors
    /// [`Overloaded`], and the error of `source`.
    pub(crate) fn read_from(
        &mut self,
        source: &mut impl Read,
        permit: &mut AdmissionPermit,
    ) -> Result<std::io::Result<usize>, Overloaded> {
        self.reserve(STEP, permit)?;
        // The capacity is reserved, so the read does not allocate.
        Ok(source.take(STEP as u64).read_to_end(&mut self.joined))
    }

    fn reserve(&mut self, more: usize, permit: &mut AdmissionPermit) -> Result<(), Overloaded> {
        let needed = self.len().saturating_add(more);
        if needed > self.acquired {
            let growth = if self.len() == 0 { 1 } else { GROWTH };
            let wanted = needed.saturating_mul(growth).min(self.expected).max(needed);
            permit.acquire_bytes(wanted - self.acquired)?;
            self.acquired = wanted;
        }
        if self.joined.capacity() < self.acquired {
            self.joined.reserve_exact(self.acquired - self.joined.len());
        }
        Ok(())
    }

    /// Returns the whole body and releases unused bytes.
    pub(crate) fn finish(mut self, permit: &mut AdmissionPermit) -> Bytes {
        permit.release_bytes(self.acquired - self.len());
        if self.joined.is_empty() {
            return self.first;
        }
        self.joined.shrink_to_fit();
        self.joined.into()
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;
    use service::Metrics;

    use super::*;
    use crate::config::LimitSettings;
    use crate::limits::admission::Admission;
    use crate::metrics::PublisherMetrics;

    fn permit(bytes: u64) -> (AdmissionPermit, PublisherMetrics) {
        let limits = LimitSettings {
            max_in_flight_bytes: ByteSize(bytes),
            ..LimitSettings::default()
        };
        let metrics = PublisherMetrics::new(&Metrics::new("test"));
        (Admission::new(&limits, &metrics).enter(), metrics)
    }

    #[test]
    fn single_chunk_is_not_copied() {
        let (mut permit, metrics) = permit(100);
        let chunk = Bytes::from_static(b"abc");
        let mut buffer = Buffer::new(100);
        buffer.push(chunk.clone(), &mut permit).unwrap();
        assert_eq!(metrics.bytes_in_flight.get(), 3);
        assert_eq!(buffer.finish(&mut permit).as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn acquired_bytes_equal_the_capacity() {
        let (mut permit, metrics) = permit(100);
        let mut buffer = Buffer::new(60);
        for (acquired, chunk) in [(10, 10), (40, 10), (40, 20), (60, 10), (60, 10)] {
            buffer.push(vec![7; chunk].into(), &mut permit).unwrap();
            assert_eq!(metrics.bytes_in_flight.get(), acquired);
            let allocated = buffer.joined.capacity().max(buffer.first.len());
            assert_eq!(i64::try_from(allocated).unwrap(), acquired);
        }
        assert_eq!(buffer.finish(&mut permit), vec![7; 60]);
    }

    #[test]
    fn nothing_is_allocated_above_the_limit() {
        let (mut permit, _) = permit(30);
        let mut buffer = Buffer::new(1_000);
        buffer.push(vec![7; 20].into(), &mut permit).unwrap();
        assert_eq!(buffer.push(vec![7; 20].into(), &mut permit), Err(Overloaded));
        assert_eq!((buffer.len(), buffer.joined.capacity()), (20, 0));
    }

    #[test]
    fn reading_stays_within_the_acquired_bytes() {
        let (mut permit, metrics) = permit(1 << 20);
        let source = vec![7; 3 * STEP + 5];
        let (mut rest, mut buffer) = (&source[..], Buffer::new(8 * STEP));
        while buffer.read_from(&mut rest, &mut permit).unwrap().unwrap() > 0 {
            assert_eq!(
                metrics.bytes_in_flight.get(),
                i64::try_from(buffer.joined.capacity()).unwrap()
            );
        }
        assert_eq!(buffer.finish(&mut permit), source);
        assert_eq!(
            metrics.bytes_in_flight.get(),
            i64::try_from(source.len()).unwrap()
        );
    }
}
